/*
 * `sandbox-init`: `launch` runs on the host and starts a jail, `init` is the first process in it, `relay` carries its
 * connections to the proxy.
 */
#include "init.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>

#include "relay.h"

static _Noreturn void run_init(int argc, char **argv) {
  for (int i = 2; i < argc; i += 2) {
    errno = EINVAL;
    if (strcmp(argv[i], "--rlimit") || i + 1 == argc) die(argv[i]);
    limit_set(argv[i + 1]);
  }
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) die("no_new_privs");
  if ((errno = -seccomp_apply()) != 0) die("seccomp");
  loop_run();
}

int main(int argc, char **argv) {
  if (argc > 1 && !strcmp(argv[1], "launch")) return launch_run(argc, argv);
  if (argc > 1 && !strcmp(argv[1], "init")) run_init(argc, argv);
  if (argc > 1 && !strcmp(argv[1], "relay")) return run_relay(argc, argv);
  fputs("usage: sandbox-init launch|init|relay\n", stderr);
  return 2;
}
