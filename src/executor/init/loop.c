#include "init.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

enum { READ_SIZE = 64 << 10, KILL_PAUSE_MS = 1, MOST_WATCHES = 4 + MAX_PROCESSES * (PIPES + 1) };
enum watch_kind { EXECUTOR_IN, EXECUTOR_OUT, CHILDREN, ZYGOTE_ANSWER, PROCESS_STARTUP, PROCESS_IN, PROCESS_OUT };

static struct pollfd polls[MOST_WATCHES];
static struct watch { enum watch_kind kind; struct process *process; int which; } watches[MOST_WATCHES];
static int watch_count;
static struct buffer frames_in;
static size_t skipped; /* bytes still to come of a payload that is not taken */

static _Noreturn void end(void) {
  kill_everything();
  _exit(0);
}

static void take_frame(uint8_t type, uint8_t flags, uint32_t id, const uint8_t *payload, size_t n) {
  switch (type) {
    case START: return process_start(id, payload, n);
    case STDIN: return process_input(id, IN_STDIN, flags & LAST_CHUNK, payload, n);
    case JOB: return process_input(id, IN_JOB, flags & LAST_CHUNK, payload, n);
    case KILL: return kill_execution(id);
    case ZYGOTE: return zygote_define(id, payload, n);
    case PING: return frame_send(PONG, id, payload, n < 64 ? n : 64);
    default: return frame_text(PROTOCOL_ERROR, id, "an unknown type of frame");
  }
}

static void take_frames(void) {
  while (buffer_length(&frames_in) > 0) {
    const uint8_t *at = frames_in.data + frames_in.start;
    size_t held = buffer_length(&frames_in);
    if (skipped > 0) {
      size_t n = held < skipped ? held : skipped;
      skipped -= n;
      buffer_drop(&frames_in, n);
      continue;
    }
    if (held < HEADER_BYTES) return;
    uint32_t n = get32(at), id = get32(at + 8);
    if (n > MAX_PAYLOAD) {
      frame_text(PROTOCOL_ERROR, id, "too long a frame");
      skipped = n;
      buffer_drop(&frames_in, HEADER_BYTES);
      continue;
    }
    if (held < HEADER_BYTES + n) return;
    take_frame(at[4], at[5], id, at + HEADER_BYTES, n);
    buffer_drop(&frames_in, HEADER_BYTES + n);
  }
}

static void read_frames(void) {
  ssize_t n = read(0, buffer_reserve(&frames_in, READ_SIZE), READ_SIZE);
  if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) end();
  if (n < 0) return;
  frames_in.end += (size_t)n;
  take_frames();
}

static void reap(int signals) {
  struct signalfd_siginfo infos[8];
  if (read(signals, infos, sizeof infos) < 0 && errno != EAGAIN) return;
  for (;;) {
    int status;
    struct rusage usage;
    pid_t pid = wait4(-1, &status, WNOHANG, &usage);
    if (pid <= 0) return;
    if (zygote_reaped(pid)) continue;
    struct process *p = NULL;
    for (int i = 0; i < live_count && !p; i++)
      if (live[i]->pid == pid && !live[i]->exited) p = live[i];
    if (p) process_exited(p, status, &usage);
    else zygote_remember(pid, status, &usage);
  }
}

static void watch(int fd, short events, enum watch_kind kind, struct process *p, int which) {
  if (fd < 0 || events == 0) return;
  polls[watch_count] = (struct pollfd){.fd = fd, .events = events};
  watches[watch_count++] = (struct watch){kind, p, which};
}

static void watch_process(struct process *p) {
  if (p->pid == 0) return;
  if (p->startup >= 0) return watch(p->startup, POLLIN, PROCESS_STARTUP, p, 0);
  for (int i = 0; i < INPUTS; i++)
    if (buffer_length(&p->in[i].held) > 0) watch(p->in[i].fd, POLLOUT, PROCESS_IN, p, i);
  if (p->exited || frames_are_full()) return;
  for (int i = 0; i < OUTPUTS; i++)
    if (i != OUT_RESULT || !p->is_new) watch(p->out[i].fd, POLLIN, PROCESS_OUT, p, i);
}

/* New frames come last: what they start can't be mistaken for what this poll was about. */
static void watch_all(int signals) {
  watch_count = 0;
  watch(1, frames_are_urgent ? POLLOUT : 0, EXECUTOR_OUT, NULL, 0);
  watch(zygote_socket(), POLLIN, ZYGOTE_ANSWER, NULL, 0);
  for (int i = 0; i < live_count; i++) watch_process(live[i]);
  watch(signals, POLLIN, CHILDREN, NULL, 0);
  /* Its end is told whatever is asked for. */
  polls[watch_count] = (struct pollfd){.fd = 0, .events = buffer_length(&frame_queue) < QUEUE_MOST ? POLLIN : 0};
  watches[watch_count++] = (struct watch){.kind = EXECUTOR_IN};
}

/* An event before it may have closed what an event is about. */
static void handle(const struct watch *w, const struct pollfd *poll) {
  struct process *p = w->process;
  switch (w->kind) {
    case EXECUTOR_IN: return read_frames();
    case EXECUTOR_OUT: return;
    case CHILDREN: return reap(poll->fd);
    case ZYGOTE_ANSWER:
      if (zygote_socket() == poll->fd) zygote_read();
      return;
    case PROCESS_STARTUP:
      if (p->startup == poll->fd) process_startup(p);
      return;
    case PROCESS_IN:
      if (p->in[w->which].fd == poll->fd) process_write(p, &p->in[w->which]);
      return;
    case PROCESS_OUT:
      if (p->out[w->which].fd != poll->fd || frames_are_full()) return;
      if (poll->revents & POLLIN) process_read(p, w->which, poll->revents & POLLHUP);
      else close_fd(&p->out[w->which].fd);
  }
}

static int earlier(int wait, int other) { return wait < 0 || other < wait ? other : wait; }

static int grow_old(struct process *p, int wait) {
  uint64_t age = now_ms() - p->started_ms;
  if (age < NEW_MS) return earlier(wait, NEW_MS - (int)age);
  p->is_new = false;
  frames_are_urgent = true;
  return wait;
}

/* What goes on without events; returns how long to wait for one at most. */
static int tick(void) {
  int wait = zygote_tick();
  if (kill_tick()) wait = earlier(wait, KILL_PAUSE_MS);
  for (int i = live_count - 1; i >= 0; i--) {
    if (live[i]->is_new) wait = grow_old(live[i], wait);
    process_finish(live[i]);
  }
  return wait;
}

static int open_signals(void) {
  sigset_t blocked;
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGCHLD);
  int signals = signalfd(-1, &blocked, SFD_CLOEXEC | SFD_NONBLOCK);
  /* Not ignored: children would have to undo that. */
  sigaddset(&blocked, SIGPIPE);
  if (signals < 0 || sigprocmask(SIG_BLOCK, &blocked, NULL)) die("signals");
  for (int i = 1; i < 32; i++) signal(i, SIG_DFL);
  return signals;
}

void loop_run(void) {
  is_pid_one = getpid() == 1;
  prctl(PR_SET_DUMPABLE, 0); /* its descriptors and its memory are closed to the sandbox */
  if (!is_pid_one) prctl(PR_SET_CHILD_SUBREAPER, 1);
  /* No pipe gets a number that it has in a child: 0 to 2 are there, the rest is taken here. */
  int signals = open_signals();
  for (int fd = signals; fd < PIPES;) fd = fcntl(signals, F_DUPFD_CLOEXEC, 3);
  for (int fd = 0; fd < 2; fd++)
    if (fcntl(fd, F_SETFD, FD_CLOEXEC) || fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK)) die("stdio");
  uint8_t ready[8];
  put32(ready, WIRE_VERSION);
  put32(ready + 4, READY_SECCOMP);
  frame_send(READY, 0, ready, sizeof ready);
  for (;;) {
    int wait = tick();
    if (!frames_flush()) end();
    watch_all(signals);
    if (poll(polls, (nfds_t)watch_count, wait) < 0) {
      if (errno != EINTR) die("poll");
      continue;
    }
    for (int i = 0; i < watch_count; i++)
      if (polls[i].revents) handle(&watches[i], &polls[i]);
  }
}
