/* The warm interpreter, which makes children of init for the executions that ask for one (warm.py is its other end). */
#include "init.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ANSWER_MS = 500, RESTART_MS = 50, LONGEST_RESTART_MS = 5000, ANSWER_BYTES = 8, REMEMBERED = 64 };

static struct command command;
static bool is_defined;
static pid_t zygote_pid;
static int sock = -1, asked_count;
static uint64_t restart_at, restart_pause = RESTART_MS;
/* The children that ended while an answer was due, the newest last. Lost ones are found out by asking the kernel. */
static struct { pid_t pid; int status; struct rusage usage; } remembered[REMEMBERED];
static int remembered_count;
static bool has_lost;

int zygote_socket(void) { return sock; }

static _Noreturn void exec_zygote(int theirs) {
  int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  dup2(null, 0);
  dup2(null, 1);
  dup2(theirs, 3);
  close_range(4, ~0u, 0);
  child_prepare(&command, -1);
  execve(command.argv[0], command.argv, command.env);
  _exit(127);
}

static void start(void) {
  int ends[2];
  restart_at = now_ms() + restart_pause;
  if (restart_pause < LONGEST_RESTART_MS) restart_pause *= 2;
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends)) return;
  pid_t pid = fork();
  if (pid == 0) exec_zygote(ends[1]);
  close(ends[1]);
  if (pid < 0) {
    close(ends[0]);
    return;
  }
  zygote_pid = pid;
  sock = ends[0];
  frame_number(ZYGOTE_STATE, 0, 1);
}

/* Whoever waits for it gets a process of its own. */
static void give_up(void) {
  if (sock < 0) return;
  close_fd(&sock);
  frame_number(ZYGOTE_STATE, 0, 0);
  if (zygote_pid > 0) kill(zygote_pid, SIGKILL);
  asked_count = remembered_count = 0;
  has_lost = false;
  for (int i = live_count - 1; i >= 0; i--)
    if (live[i]->asked) process_exec(live[i]);
}

void zygote_define(uint32_t id, const uint8_t *payload, size_t n) {
  struct command defined;
  if (!command_parse(&defined, payload, n)) return frame_text(PROTOCOL_ERROR, id, "a malformed ZYGOTE");
  command_free(&command);
  command = defined;
  is_defined = true;
  restart_pause = RESTART_MS;
  if (zygote_pid == 0) start();
}

bool zygote_ask(struct process *p) {
  if (sock < 0) return false;
  uint8_t id[4];
  put32(id, p->id);
  struct iovec data = {id, sizeof id};
  union { char bytes[CMSG_SPACE(sizeof p->theirs)]; struct cmsghdr align; } control = {0};
  struct msghdr message = {
      .msg_iov = &data, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
  struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
  rights->cmsg_level = SOL_SOCKET;
  rights->cmsg_type = SCM_RIGHTS;
  rights->cmsg_len = CMSG_LEN(sizeof p->theirs);
  memcpy(CMSG_DATA(rights), p->theirs, sizeof p->theirs);
  if (sendmsg(sock, &message, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) return false;
  p->asked = true;
  p->asked_ms = now_ms();
  asked_count++;
  return true;
}

void zygote_remember(pid_t pid, int status, const struct rusage *usage) {
  if (asked_count == 0) return;
  if (remembered_count == REMEMBERED) {
    has_lost = true;
    memmove(remembered, remembered + 1, sizeof remembered - sizeof *remembered);
    remembered_count--;
  }
  remembered[remembered_count].pid = pid;
  remembered[remembered_count].status = status;
  remembered[remembered_count++].usage = *usage;
}

/* The child may have ended before the answer: it is as if it ended now. */
static void end_if_ended(struct process *p) {
  for (int i = remembered_count - 1; i >= 0; i--)
    if (remembered[i].pid == p->pid) return process_exited(p, remembered[i].status, &remembered[i].usage);
  struct rusage none = {0};
  if (has_lost && kill(p->pid, 0) && errno == ESRCH) process_exited(p, SIGKILL, &none);
}

/* Whether it is init's to signal: a zygote that lies could name any process, outside of a namespace any at all. */
static bool is_child(pid_t pid) {
  for (int i = 0; i < remembered_count; i++)
    if (remembered[i].pid == pid) return true;
  siginfo_t info;
  return waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 || (has_lost && kill(pid, 0) && errno == ESRCH);
}

static bool is_taken(pid_t pid) {
  for (int i = 0; i < live_count; i++)
    if (live[i]->pid == pid) return true;
  return pid == zygote_pid;
}

static void take_answer(uint32_t id, pid_t pid) {
  struct process *p = process_find(id);
  if (p == NULL || !p->asked) return;
  asked_count--;
  restart_pause = RESTART_MS;
  if (pid <= 1 || is_taken(pid) || !is_child(pid)) {
    process_exec(p);
  } else {
    p->asked = false;
    p->pid = pid;
    process_started(p);
    end_if_ended(p);
  }
  if (asked_count > 0) return;
  remembered_count = 0;
  has_lost = false;
}

void zygote_read(void) {
  uint8_t answer[ANSWER_BYTES + 1];
  ssize_t n = recv(sock, answer, sizeof answer, MSG_DONTWAIT);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (n != ANSWER_BYTES) return give_up();
  take_answer(get32(answer), (pid_t)get32(answer + 4));
}

bool zygote_reaped(pid_t pid) {
  if (pid != zygote_pid) return false;
  zygote_pid = 0;
  give_up();
  return true;
}

int zygote_tick(void) {
  if (asked_count > 0) {
    uint64_t oldest = UINT64_MAX, now = now_ms();
    for (int i = 0; i < live_count; i++)
      if (live[i]->asked && live[i]->asked_ms < oldest) oldest = live[i]->asked_ms;
    if (now < oldest + ANSWER_MS) return (int)(oldest + ANSWER_MS - now);
    give_up();
  }
  if (!is_defined || sock >= 0 || zygote_pid != 0) return -1;
  uint64_t now = now_ms();
  if (now < restart_at) return (int)(restart_at - now);
  start();
  return RESTART_MS;
}
