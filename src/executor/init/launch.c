/* `sandbox-init launch`: starts a program with fewer rights than its caller has, or not at all. */
#include "init.h"
#include "stage.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

static _Noreturn void die_of_argument(const char *what) {
  errno = EINVAL;
  die(what);
}

static long parse_number(const char *text) {
  char *end;
  errno = 0;
  long value = strtol(text, &end, 10);
  if (*text == 0 || *end != 0 || value < 0 || errno != 0) die_of_argument(text);
  return value;
}

void limit_set(char *text) {
  static const struct { const char *name; int resource; } known[] = {
      {"NOFILE", RLIMIT_NOFILE}, {"NPROC", RLIMIT_NPROC},           {"FSIZE", RLIMIT_FSIZE},
      {"CORE", RLIMIT_CORE},     {"AS", RLIMIT_AS},                 {"SIGPENDING", RLIMIT_SIGPENDING},
      {"MEMLOCK", RLIMIT_MEMLOCK}, {"MSGQUEUE", RLIMIT_MSGQUEUE},
  };
  char *equals = strchr(text, '=');
  if (equals == NULL) die_of_argument(text);
  *equals = 0;
  rlim_t value = (rlim_t)parse_number(equals + 1);
  for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
    if (strcmp(text, known[i].name)) continue;
    struct rlimit limit = {value, value};
    if (setrlimit(known[i].resource, &limit)) die(text);
    return;
  }
  die_of_argument(text);
}

static void join_group(const char *directory) {
  char path[4096];
  if (snprintf(path, sizeof path, "%s/cgroup.procs", directory) >= (int)sizeof path) die_of_argument(directory);
  int fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0 || write(fd, "0", 1) != 1) die(path);
  close(fd);
}

int launch_run(int argc, char **argv) {
  long uid = -1, gid = -1;
  pid_t parent = getppid();
  int i = 2;
  for (; i < argc && strcmp(argv[i], "--"); i += 2) {
    if (i + 1 >= argc) die_of_argument(argv[i]);
    char *value = argv[i + 1];
    if (!strcmp(argv[i], "--uid")) uid = parse_number(value);
    else if (!strcmp(argv[i], "--gid")) gid = parse_number(value);
    else if (!strcmp(argv[i], "--cgroup")) join_group(value);
    else if (!strcmp(argv[i], "--rlimit")) limit_set(value);
    else if (!strcmp(argv[i], "--stage")) stage_open(value);
    else if (!strcmp(argv[i], "--bind")) stage_bind(value);
    else die_of_argument(argv[i]);
  }
  if (i + 1 >= argc) die_of_argument("no program");
  char **program = argv + i + 1;
  setsid(); /* fails for the leader of a group, which is one already */
  if (close_range(3, ~0u, 0)) die("close_range");
  if (gid >= 0 && (setgroups(0, NULL) || setresgid((gid_t)gid, (gid_t)gid, (gid_t)gid))) die("gid");
  if (uid >= 0 && setresuid((uid_t)uid, (uid_t)uid, (uid_t)uid)) die("uid");
  /* A change of the user undoes this, so it comes after; the parent may have ended before it. */
  if (prctl(PR_SET_PDEATHSIG, SIGKILL)) die("pdeathsig");
  if (getppid() != parent) _exit(125);
  execv(program[0], program);
  die(program[0]);
}
