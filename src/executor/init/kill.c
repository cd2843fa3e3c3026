/*
 * Ending all processes of an execution. Its leader adopts its orphans, so all of them are below the leader until that one
 * ends; it is stopped first and killed last. Each step takes one look at /proc, for all executions that are being ended, so
 * that init goes on with everything else.
 */
#include "init.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* After so many steps of about a millisecond something forks or resumes faster than it is found. */
enum { MOST_ROUNDS = 200, END_ROUNDS = 2000 };

struct entry { pid_t pid, parent, group, session; bool is_stopped, is_gone, is_member; };

bool is_pid_one;
static struct entry *entries;
static int entry_count, entry_room;

static bool read_entry(const char *name, struct entry *e) {
  char path[40], line[512];
  snprintf(path, sizeof path, "/proc/%.20s/stat", name);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  ssize_t n = read(fd, line, sizeof line - 1);
  close(fd);
  line[n > 0 ? n : 0] = 0;
  const char *rest = strrchr(line, ')'); /* a name of a program may hold anything, parentheses too */
  char state;
  int parent, group, session, threads;
  const char *format = " %c %d %d %d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %d";
  if (rest == NULL || sscanf(rest + 1, format, &state, &parent, &group, &session, &threads) != 5) return false;
  /* The first thread of a process can end before the others: that is not a zombie yet. */
  bool is_gone = (state == 'Z' && threads <= 1) || state == 'X';
  *e = (struct entry){atoi(name), parent, group, session, state == 'T', is_gone, false};
  return true;
}

/* /proc lists by ascending pid. */
static void scan(void) {
  DIR *directory = opendir("/proc");
  entry_count = 0;
  for (struct dirent *d; directory && (d = readdir(directory));) {
    if (d->d_name[0] < '1' || d->d_name[0] > '9') continue;
    if (entry_count == entry_room) {
      entry_room = entry_room ? entry_room * 2 : 256;
      entries = realloc(entries, (size_t)entry_room * sizeof *entries);
      if (entries == NULL) die("memory");
    }
    if (read_entry(d->d_name, &entries[entry_count])) entry_count++;
  }
  if (directory) closedir(directory);
}

static bool is_member(pid_t pid) {
  for (int low = 0, high = entry_count; low < high;) {
    int middle = (low + high) / 2;
    if (entries[middle].pid == pid) return entries[middle].is_member;
    if (entries[middle].pid < pid) low = middle + 1;
    else high = middle;
  }
  return false;
}

/* Kills what is below root, and what is in its session, as the last scan saw it; returns how many were not gone. */
static int kill_below(pid_t root) {
  int alive = 0;
  for (int i = 0; i < entry_count; i++) entries[i].is_member = false;
  for (bool grew = true; grew;) {
    grew = false;
    for (int i = 0; i < entry_count; i++) {
      struct entry *e = &entries[i];
      if (e->is_member || e->pid == root || e->pid == getpid()) continue;
      e->is_member = e->parent == root || (root != getpid() && e->session == root) || is_member(e->parent);
      grew |= e->is_member;
    }
  }
  for (int i = 0; i < entry_count; i++) {
    const struct entry *e = &entries[i];
    if (!e->is_member || e->is_gone) continue;
    alive++;
    kill(e->pid, SIGKILL);
    /* A whole group goes in one step, whatever it forks meanwhile. It is in one session, and so in one execution. */
    if (e->group > 1 && e->group != root && root != getpid()) kill(-e->group, SIGKILL);
  }
  return alive;
}

/* Outside a PID namespace of its own, -1 would be the whole machine. */
void kill_everything(void) {
  if (is_pid_one) {
    kill(-1, SIGKILL);
    return;
  }
  for (int round = 0; round < END_ROUNDS; round++) {
    scan();
    if (kill_below(getpid()) == 0) return;
    while (waitpid(-1, NULL, WNOHANG) > 0) continue;
    usleep(round < 10 ? 100 : 1000);
  }
}

/* Ends everything else of the sandbox too; init starts the zygote again. */
static void last_resort(struct process *p) {
  if (is_pid_one) kill(-1, SIGKILL);
  else kill(-p->pid, SIGKILL);
  p->ending = END_DONE;
}

static void stop(const struct process *p) {
  if (p->exited) return;
  kill(-p->pid, SIGSTOP); /* its group is all of most executions, fork bombs too */
  kill(p->pid, SIGSTOP);  /* a child of the zygote that has no group of its own yet */
}

/* Whether p's leader makes no more children. */
static bool is_still(const struct process *p) {
  struct entry leader;
  char name[16];
  snprintf(name, sizeof name, "%d", p->pid);
  return p->exited || !read_entry(name, &leader) || leader.is_stopped || leader.is_gone;
}

bool kill_tick(void) {
  bool still[MAX_PROCESSES], is_any = false, is_left = false;
  for (int i = 0; i < live_count; i++) {
    if (live[i]->ending != END_GOING) continue;
    if (live[i]->ending_rounds++ > 0) stop(live[i]);
    still[i] = is_still(live[i]); /* before the scan, which then sees all that it ever made */
    is_any = true;
  }
  if (!is_any) return false;
  scan();
  for (int i = 0; i < live_count; i++) {
    struct process *p = live[i];
    if (p->ending != END_GOING) continue;
    if (kill_below(p->pid) == 0 && still[i]) {
      if (!p->exited) kill(p->pid, SIGKILL);
      p->ending = END_DONE;
    } else if (p->ending_rounds > MOST_ROUNDS) {
      last_resort(p);
    } else {
      is_left = true;
    }
  }
  return is_left;
}

void kill_begin(struct process *p) {
  p->ending = END_GOING;
  p->ending_rounds = 0;
  stop(p);
}

void kill_execution(uint32_t id) {
  struct process *p = process_find(id);
  if (p == NULL) return frame_send(KILLED, id, NULL, 0);
  if (p->ending != END_NONE) return;
  if (p->pid == 0) p->ending = END_WANTED;
  else kill_begin(p);
}
