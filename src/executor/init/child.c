#include "init.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

/* It goes before init and the zygote when memory runs out. */
static void raise_oom_score(void) {
  int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
  if (fd < 0) return;
  if (write(fd, "1000", 4) < 0) {} /* a machine without it works too */
  close(fd);
}

void child_prepare(const struct command *c, int kept) {
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
  setsid();
  if (kept >= 0) {
    close_range((unsigned)kept + 1, ~0u, 0);
    prctl(PR_SET_CHILD_SUBREAPER, 1); /* its daemons stay below it, where they are found */
    prctl(PR_SET_DUMPABLE, 1); /* /proc/self is its own again; only now, without the descriptors of init */
    raise_oom_score();
  }
  if (c->cwd != NULL && chdir(c->cwd) && chdir("/")) _exit(126);
}
