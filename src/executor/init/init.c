/* sandbox-init: `launch` (host side) and `init` (PID 1 of a sandbox). */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "relay.h"

enum { START = 1, STDIN_CHUNK = 2, JOB_CHUNK = 3, SIGNAL_P = 4, KILL_P = 5, ZYGOTE = 6, PING = 7 };
enum { READY = 0x41, STARTED = 0x42, OUT = 0x43, ERR = 0x44, RES = 0x45, EXITED = 0x46, START_FAILED = 0x47, KILLED = 0x48, PONG = 0x49, ZYGOTE_STATE = 0x4a, LOGT = 0x4b, PROTO_ERROR = 0x4c };
#define HEADER 12
#define MAX_IN (1u << 20)
#define MAX_PENDING (16u << 20)
#define CHUNK 65536
#define OUT_HIGH (1u << 20)
#define MAX_PROC 256

struct buf { uint8_t *p; size_t off, len, cap; };
struct start { char **argv, **env; int argc, envc; char *cwd; uint32_t flags; struct { uint32_t res; uint64_t soft, hard; } lim[16]; int nlim; };
struct proc {
  int used; uint32_t id; pid_t pid; int in, out, err, job, res; struct buf inb, jobb; int in_last, job_last;
  int exited, status; struct rusage ru; int waiting_zygote; uint64_t asked_ms; int killing; struct start st; int spare;
  int cin, cout, cerr, cjob, cres;
};
static struct proc procs[MAX_PROC];
static struct buf outq;
static struct { pid_t pid; int sock; struct start st; int defined; uint64_t restart_ms; } zyg = {.sock = -1};
static struct { pid_t pid; int status; struct rusage ru; } orphans[64];
static int norphan, is_pid1;

static uint64_t now_ms(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec * 1000ull + t.tv_nsec / 1000000; }
static void die(const char *what) { dprintf(2, "sandbox-init: %s: %s\n", what, strerror(errno)); _exit(125); }
static void put(struct buf *b, const void *d, size_t n) {
  if (b->off && b->off == b->len) b->off = b->len = 0;
  if (b->len + n > b->cap) {
    if (b->off) { memmove(b->p, b->p + b->off, b->len - b->off); b->len -= b->off; b->off = 0; }
    if (b->len + n > b->cap) { size_t c = b->cap ? b->cap : 4096; while (c < b->len + n) c *= 2; uint8_t *p = realloc(b->p, c); if (!p) die("memory"); b->p = p; b->cap = c; }
  }
  memcpy(b->p + b->len, d, n); b->len += n;
}
static size_t left(const struct buf *b) { return b->len - b->off; }
static void drop(struct buf *b) { free(b->p); memset(b, 0, sizeof *b); }
static void le32(uint8_t *p, uint32_t v) { p[0] = v; p[1] = v >> 8; p[2] = v >> 16; p[3] = v >> 24; }
static uint32_t rd32(const uint8_t *p) { return p[0] | p[1] << 8 | p[2] << 16 | (uint32_t)p[3] << 24; }
static uint64_t rd64(const uint8_t *p) { return rd32(p) | (uint64_t)rd32(p + 4) << 32; }
static void send_frame(uint8_t type, uint32_t id, const void *d, uint32_t n) {
  uint8_t h[HEADER] = {0}; le32(h, n); h[4] = type; le32(h + 8, id); put(&outq, h, HEADER); if (n) put(&outq, d, n);
}
static void send_text(uint8_t type, uint32_t id, const char *s) { send_frame(type, id, s, strlen(s)); }
static void flush_out(void) {
  while (left(&outq)) {
    ssize_t n = write(1, outq.p + outq.off, left(&outq));
    if (n < 0) { if (errno == EINTR) continue; if (errno == EAGAIN) return; _exit(0); }
    outq.off += n;
  }
  outq.off = outq.len = 0;
}
static int parse_start(const uint8_t *p, uint32_t n, struct start *s) {
  memset(s, 0, sizeof *s); s->argv = calloc(1, sizeof(char *)); s->env = calloc(1, sizeof(char *));
  while (n) {
    if (n < 5) return -1;
    uint8_t tag = p[0]; uint32_t len = rd32(p + 1); p += 5; n -= 5; if (len > n) return -1;
    if (tag == 1 || tag == 2) {
      if (memchr(p, 0, len)) return -1;
      char *t = strndup((const char *)p, len); int *c = tag == 1 ? &s->argc : &s->envc; char ***v = tag == 1 ? &s->argv : &s->env;
      if (*c > 4096) return -1;
      *v = realloc(*v, (*c + 2) * sizeof(char *)); (*v)[(*c)++] = t; (*v)[*c] = 0;
    } else if (tag == 3) { free(s->cwd); s->cwd = strndup((const char *)p, len); }
    else if (tag == 4) { if (len != 20 || s->nlim == 16) return -1; s->lim[s->nlim].res = rd32(p); s->lim[s->nlim].soft = rd64(p + 4); s->lim[s->nlim++].hard = rd64(p + 12); }
    else if (tag == 5) { if (len != 4) return -1; s->flags = rd32(p); }
    p += len; n -= len;
  }
  return 0;
}
static void free_start(struct start *s) { for (int i = 0; i < s->argc; i++) free(s->argv[i]); for (int i = 0; i < s->envc; i++) free(s->env[i]); free(s->argv); free(s->env); free(s->cwd); memset(s, 0, sizeof *s); }
static struct proc *find(uint32_t id) { for (int i = 0; i < MAX_PROC; i++) if (procs[i].used && procs[i].id == id) return &procs[i]; return 0; }
static void shut(int *fd) { if (*fd >= 0) close(*fd); *fd = -1; }
static void nonblock(int fd) { fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK); }
static void close_child_ends(struct proc *p) { shut(&p->cin); shut(&p->cout); shut(&p->cerr); shut(&p->cjob); shut(&p->cres); }
static void release(struct proc *p) { shut(&p->in); shut(&p->out); shut(&p->err); shut(&p->job); shut(&p->res); close_child_ends(p); drop(&p->inb); drop(&p->jobb); free_start(&p->st); memset(p, 0, sizeof *p); }
static void write_file(const char *path, const char *s) { int fd = open(path, O_WRONLY | O_CLOEXEC); if (fd >= 0) { if (write(fd, s, strlen(s)) < 0) {} close(fd); } }
static void child_common(const struct start *s) {
  sigset_t none; sigemptyset(&none); sigprocmask(SIG_SETMASK, &none, 0);
  for (int i = 1; i < 32; i++) signal(i, SIG_DFL);
  setsid(); prctl(PR_SET_CHILD_SUBREAPER, 1); write_file("/proc/self/oom_score_adj", "1000");
  for (int i = 0; i < s->nlim; i++) { struct rlimit l = {s->lim[i].soft, s->lim[i].hard}; setrlimit(s->lim[i].res, &l); }
  if (s->cwd && chdir(s->cwd)) { if (chdir("/")) {} }
}
static void run_exec(struct proc *p) {
  int e[2]; if (pipe2(e, O_CLOEXEC)) die("pipe");
  pid_t pid = fork();
  if (pid == 0) {
    int fds[5] = {p->cin, p->cout, p->cerr, p->cjob, p->cres};
    for (int i = 0; i < 5; i++) { fds[i] = fcntl(fds[i], F_DUPFD, 100); } int ee = fcntl(e[1], F_DUPFD_CLOEXEC, 100);
    for (int i = 0; i < 5; i++) dup2(fds[i], i);
    close_range(5, ee - 1, 0); close_range(ee + 1, ~0u, 0); dup2(ee, 5); fcntl(5, F_SETFD, FD_CLOEXEC); close(ee);
    child_common(&p->st); prctl(PR_SET_DUMPABLE, 1);
    execve(p->st.argv[0], p->st.argv, p->st.env);
    int err = errno; if (write(5, &err, sizeof err) < 0) {} _exit(127);
  }
  close(e[1]); close_child_ends(p);
  int err = 0; if (pid < 0) err = errno; else while (read(e[0], &err, sizeof err) < 0 && errno == EINTR) {}
  close(e[0]);
  if (err) {
    if (pid > 0) waitpid(pid, 0, 0);
    uint8_t b[128]; le32(b, err); int n = snprintf((char *)b + 4, 120, "%s: %s", p->st.argv[0], strerror(err)); send_frame(START_FAILED, p->id, b, 4 + n); release(p); return;
  }
  p->pid = pid; uint8_t b[4]; le32(b, pid); send_frame(STARTED, p->id, b, 4);
}
static void start_zygote(void) {
  int sv[2]; if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv)) return;
  pid_t pid = fork();
  if (pid == 0) {
    int s = fcntl(sv[1], F_DUPFD, 100); int nul = open("/dev/null", O_RDWR); dup2(nul, 0); dup2(nul, 1); dup2(2, 2); dup2(s, 3); close_range(4, ~0u, 0);
    sigset_t none; sigemptyset(&none); sigprocmask(SIG_SETMASK, &none, 0); for (int i = 1; i < 32; i++) signal(i, SIG_DFL);
    setsid(); if (zyg.st.cwd && chdir(zyg.st.cwd)) {}
    execve(zyg.st.argv[0], zyg.st.argv, zyg.st.env); _exit(127);
  }
  close(sv[1]); zyg.pid = pid; zyg.sock = sv[0]; nonblock(sv[0]); uint8_t b[4]; le32(b, 1); send_frame(ZYGOTE_STATE, 0, b, 4);
}
static void zygote_down(void) {
  if (zyg.sock >= 0) { close(zyg.sock); zyg.sock = -1; uint8_t b[4]; le32(b, 0); send_frame(ZYGOTE_STATE, 0, b, 4); }
  if (zyg.pid > 0) kill(zyg.pid, SIGKILL);
  zyg.restart_ms = now_ms() + 50;
  for (int i = 0; i < MAX_PROC; i++) if (procs[i].used && procs[i].waiting_zygote) { procs[i].waiting_zygote = 0; run_exec(&procs[i]); }
}
static int ask_zygote(struct proc *p) {
  if (zyg.sock < 0) return -1;
  uint8_t id[4]; le32(id, p->id); struct iovec iov = {id, 4}; int fds[5] = {p->cin, p->cout, p->cerr, p->cjob, p->cres};
  union { char b[CMSG_SPACE(sizeof fds)]; struct cmsghdr a; } c; memset(&c, 0, sizeof c);
  struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = c.b, .msg_controllen = sizeof c.b};
  struct cmsghdr *h = CMSG_FIRSTHDR(&m); h->cmsg_level = SOL_SOCKET; h->cmsg_type = SCM_RIGHTS; h->cmsg_len = CMSG_LEN(sizeof fds); memcpy(CMSG_DATA(h), fds, sizeof fds);
  if (sendmsg(zyg.sock, &m, MSG_NOSIGNAL) < 0) return -1;
  p->waiting_zygote = 1; p->asked_ms = now_ms(); return 0;
}
static void on_start(uint32_t id, const uint8_t *d, uint32_t n) {
  if (find(id)) return send_text(PROTO_ERROR, id, "id in use");
  struct proc *p = 0; for (int i = 0; i < MAX_PROC && !p; i++) if (!procs[i].used) p = &procs[i];
  if (!p) return send_text(PROTO_ERROR, id, "too many processes");
  memset(p, 0, sizeof *p); p->in = p->out = p->err = p->job = p->res = p->cin = p->cout = p->cerr = p->cjob = p->cres = -1;
  if (parse_start(d, n, &p->st) || !p->st.argc) { free_start(&p->st); return send_text(PROTO_ERROR, id, "bad start"); }
  p->used = 1; p->id = id; int a[2];
  int *mine[5] = {&p->in, &p->out, &p->err, &p->job, &p->res}, *theirs[5] = {&p->cin, &p->cout, &p->cerr, &p->cjob, &p->cres};
  for (int i = 0; i < 5; i++) {
    if (pipe2(a, O_CLOEXEC)) { uint8_t b[4]; le32(b, errno); send_frame(START_FAILED, id, b, 4); release(p); return; }
    int to_child = i == 0 || i == 3; *mine[i] = a[to_child ? 1 : 0]; *theirs[i] = a[to_child ? 0 : 1]; nonblock(*mine[i]);
  }
  if ((p->st.flags & 1) && ask_zygote(p) == 0) return;
  run_exec(p);
}
static void on_chunk(uint32_t id, int is_job, uint8_t flags, const uint8_t *d, uint32_t n) {
  struct proc *p = find(id); if (!p) return;
  struct buf *b = is_job ? &p->jobb : &p->inb; int *fd = is_job ? &p->job : &p->in;
  if (*fd < 0) return;
  if (left(b) + n > MAX_PENDING) return send_text(PROTO_ERROR, id, "too much input");
  put(b, d, n); if (flags & 1) { if (is_job) p->job_last = 1; else p->in_last = 1; }
}
static void pump_in(int *fd, struct buf *b, int last) {
  while (*fd >= 0 && left(b)) {
    ssize_t n = write(*fd, b->p + b->off, left(b));
    if (n < 0) { if (errno == EINTR) continue; if (errno == EAGAIN) return; shut(fd); drop(b); return; }
    b->off += n;
  }
  if (*fd >= 0 && last) { shut(fd); drop(b); }
}
static pid_t parent_of(pid_t pid) {
  char path[40], line[512]; snprintf(path, sizeof path, "/proc/%d/stat", pid); int fd = open(path, O_RDONLY | O_CLOEXEC); if (fd < 0) return -1;
  ssize_t n = read(fd, line, sizeof line - 1); close(fd); if (n <= 0) return -1; line[n] = 0; char *q = strrchr(line, ')'); int pp = -1; char st; if (!q || sscanf(q + 1, " %c %d", &st, &pp) != 2) return -1;
  return st == 'Z' ? -1 : pp;
}
static int kill_descendants(pid_t root) {
  static pid_t pids[65536], parents[65536]; int n = 0, killed = 0; DIR *d = opendir("/proc"); struct dirent *e; if (!d) return 0;
  while ((e = readdir(d)) && n < 65536) { pid_t pid = atoi(e->d_name); if (pid <= 1) continue; pid_t pp = parent_of(pid); if (pp >= 0) { pids[n] = pid; parents[n++] = pp; } }
  closedir(d);
  static char in[65536]; memset(in, 0, n); int grew = 1;
  while (grew) { grew = 0; for (int i = 0; i < n; i++) if (!in[i]) { int hit = parents[i] == root; for (int j = 0; j < n && !hit; j++) hit = in[j] && pids[j] == parents[i]; if (hit) in[i] = grew = 1; } }
  for (int i = 0; i < n; i++) if (in[i] && pids[i] != root) { kill(pids[i], SIGKILL); killed++; }
  return killed;
}
/* Ends everything but init. Outside a PID namespace of its own, -1 would be the whole machine: only descendants there. */
static void kill_all(void) {
  if (is_pid1) kill(-1, SIGKILL);
  else for (int rounds = 0; kill_descendants(getpid()) > 0 && rounds < 100; rounds++) while (waitpid(-1, 0, WNOHANG) > 0) {}
}
static void reap(void) {
  for (;;) {
    int st; struct rusage ru; pid_t pid = wait4(-1, &st, WNOHANG, &ru); if (pid <= 0) return;
    if (pid == zyg.pid) { zyg.pid = 0; zygote_down(); continue; }
    struct proc *p = 0; int pending = 0;
    for (int i = 0; i < MAX_PROC; i++) if (procs[i].used) { if (procs[i].pid == pid) p = &procs[i]; if (procs[i].waiting_zygote) pending = 1; }
    if (p) { p->exited = 1; p->status = st; p->ru = ru; } else if (pending && norphan < 64) { orphans[norphan].pid = pid; orphans[norphan].status = st; orphans[norphan++].ru = ru; }
  }
}
static void on_kill(uint32_t id) {
  struct proc *p = find(id);
  if (!p || p->exited || !p->pid) { if (p && !p->pid) p->killing = 1; if (!p || p->exited) send_frame(KILLED, id, 0, 0); return; }
  kill(p->pid, SIGSTOP);
  int rounds = 0; while (kill_descendants(p->pid) > 0 && ++rounds < 400) { reap(); if (p->exited) break; if (rounds > 20) usleep(1000); }
  if (!p->exited) kill(p->pid, SIGKILL);
  if (rounds >= 400) kill_all();
  p->killing = 2;
}
static void zygote_reply(void) {
  for (;;) {
    uint8_t b[8]; ssize_t n = recv(zyg.sock, b, 8, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n != 8) { zygote_down(); return; }
    struct proc *p = find(rd32(b)); int32_t pid = rd32(b + 4); if (!p || !p->waiting_zygote) continue;
    p->waiting_zygote = 0;
    if (pid <= 0) { run_exec(p); continue; }
    close_child_ends(p); p->pid = pid; uint8_t s[4]; le32(s, pid); send_frame(STARTED, p->id, s, 4);
    int any = 0; for (int i = 0; i < norphan; i++) if (orphans[i].pid == pid) { p->exited = 1; p->status = orphans[i].status; p->ru = orphans[i].ru; }
    for (int i = 0; i < MAX_PROC; i++) any |= procs[i].used && procs[i].waiting_zygote;
    if (!any) norphan = 0;
    if (p->killing == 1) on_kill(p->id);
  }
}
static int pump_out(struct proc *p, int *fd, uint8_t type) {
  static uint8_t b[CHUNK]; if (*fd < 0) return 0;
  ssize_t n = read(*fd, b, CHUNK); if (n > 0) { send_frame(type, p->id, b, n); return 1; }
  if (n == 0 || (errno != EAGAIN && errno != EINTR)) shut(fd);
  return 0;
}
static void finish(struct proc *p) {
  if (!p->exited) return;
  for (int i = 0; i < 64 && left(&outq) < OUT_HIGH * 4; i++) { int m = pump_out(p, &p->out, OUT); m |= pump_out(p, &p->err, ERR); m |= pump_out(p, &p->res, RES); if (!m) goto drained; }
  return;
drained:;
  uint8_t b[44]; le32(b, p->status); uint64_t v[5] = {p->ru.ru_utime.tv_sec * 1000000ull + p->ru.ru_utime.tv_usec, p->ru.ru_stime.tv_sec * 1000000ull + p->ru.ru_stime.tv_usec, p->ru.ru_maxrss, p->ru.ru_inblock, p->ru.ru_oublock};
  for (int i = 0; i < 5; i++) { le32(b + 4 + i * 8, v[i]); le32(b + 8 + i * 8, v[i] >> 32); }
  send_frame(EXITED, p->id, b, 44); if (p->killing) send_frame(KILLED, p->id, 0, 0); release(p);
}
static void handle(uint8_t type, uint8_t flags, uint32_t id, const uint8_t *d, uint32_t n) {
  switch (type) {
    case START: on_start(id, d, n); break;
    case STDIN_CHUNK: on_chunk(id, 0, flags, d, n); break;
    case JOB_CHUNK: on_chunk(id, 1, flags, d, n); break;
    case SIGNAL_P: { struct proc *p = find(id); if (p && p->pid && n == 4 && !p->exited) kill(-p->pid, (int)rd32(d)); break; }
    case KILL_P: on_kill(id); break;
    case ZYGOTE: if (zyg.defined) free_start(&zyg.st); if (parse_start(d, n, &zyg.st) || !zyg.st.argc) { send_text(PROTO_ERROR, id, "bad zygote"); zyg.defined = 0; break; } zyg.defined = 1; if (zyg.sock < 0) start_zygote(); break;
    case PING: send_frame(PONG, id, d, n > 64 ? 64 : n); break;
    default: send_text(PROTO_ERROR, id, "unknown frame"); break;
  }
}
static int run_init(void) {
  is_pid1 = getpid() == 1; signal(SIGPIPE, SIG_IGN); prctl(PR_SET_DUMPABLE, 0); if (!is_pid1) prctl(PR_SET_CHILD_SUBREAPER, 1);
  sigset_t m; sigemptyset(&m); sigaddset(&m, SIGCHLD); sigprocmask(SIG_BLOCK, &m, 0); int sfd = signalfd(-1, &m, SFD_CLOEXEC | SFD_NONBLOCK);
  fcntl(0, F_SETFD, FD_CLOEXEC); fcntl(1, F_SETFD, FD_CLOEXEC); nonblock(0); nonblock(1);
  uint8_t r[8] = {1}; send_frame(READY, 0, r, 8); struct buf inq = {0};
  for (;;) {
    flush_out();
    struct pollfd f[MAX_PROC * 5 + 4]; struct { struct proc *p; int *fd; int kind; } w[MAX_PROC * 5 + 4]; int n = 0;
    int full = left(&outq) > OUT_HIGH, soon = -1;
#define ADD(FD, EV, P, REF, K) do { f[n].fd = (FD); f[n].events = (EV); f[n].revents = 0; w[n].p = (P); w[n].fd = (REF); w[n].kind = (K); n++; } while (0)
    ADD(0, POLLIN, 0, 0, 0); ADD(1, left(&outq) ? POLLOUT : 0, 0, 0, 1); ADD(sfd, POLLIN, 0, 0, 2); if (zyg.sock >= 0) ADD(zyg.sock, POLLIN, 0, 0, 3);
    for (int i = 0; i < MAX_PROC; i++) { struct proc *p = &procs[i]; if (!p->used) continue;
      pump_in(&p->in, &p->inb, p->in_last); pump_in(&p->job, &p->jobb, p->job_last);
      if (p->in >= 0 && left(&p->inb)) ADD(p->in, POLLOUT, p, &p->in, 4);
      if (p->job >= 0 && left(&p->jobb)) ADD(p->job, POLLOUT, p, &p->job, 5);
      if (!full) { if (p->out >= 0) ADD(p->out, POLLIN, p, &p->out, OUT); if (p->err >= 0) ADD(p->err, POLLIN, p, &p->err, ERR); if (p->res >= 0) ADD(p->res, POLLIN, p, &p->res, RES); }
      if (p->waiting_zygote) { uint64_t t = now_ms(); if (t - p->asked_ms > 500) { zygote_down(); soon = 0; } else if (soon) soon = 500 - (t - p->asked_ms) + 1; } }
    if (zyg.defined && zyg.sock < 0 && !zyg.pid) { uint64_t t = now_ms(); if (t >= zyg.restart_ms) { start_zygote(); soon = 0; } else if (soon) soon = zyg.restart_ms - t + 1; }
    if (poll(f, n, soon) < 0 && errno != EINTR) die("poll");
    for (int i = 0; i < n; i++) { if (!f[i].revents) continue; struct proc *p = w[i].p;
      if (w[i].kind == 0) {
        static uint8_t b[CHUNK]; ssize_t k = read(0, b, CHUNK); if (k == 0 || (k < 0 && errno != EAGAIN && errno != EINTR)) { kill_all(); _exit(0); }
        if (k > 0) put(&inq, b, k);
        while (left(&inq) >= HEADER) { const uint8_t *h = inq.p + inq.off; uint32_t len = rd32(h); if (len > MAX_IN * 2) { send_text(PROTO_ERROR, 0, "frame too large"); flush_out(); kill_all(); _exit(1); } if (left(&inq) < HEADER + len) break; inq.off += HEADER + len; handle(h[4], h[5], rd32(h + 8), h + HEADER, len); }
      } else if (w[i].kind == 2) { struct signalfd_siginfo si; while (read(sfd, &si, sizeof si) > 0) {} reap(); }
      else if (w[i].kind == 3) { if (zyg.sock >= 0) zygote_reply(); }
      else if (p && p->used && w[i].fd && *w[i].fd == f[i].fd && w[i].kind >= OUT) pump_out(p, w[i].fd, w[i].kind);
    }
    reap();
    for (int i = 0; i < MAX_PROC; i++) if (procs[i].used) finish(&procs[i]);
  }
}
static void deny(scmp_filter_ctx c, const char *name, int err) { int nr = seccomp_syscall_resolve_name(name); if (nr != __NR_SCMP_ERROR) seccomp_rule_add(c, SCMP_ACT_ERRNO(err), nr, 0); }
static int apply_seccomp(void) {
  static const char *names[] = {"mount","umount2","pivot_root","chroot","open_tree","move_mount","fsopen","fsconfig","fsmount","fspick","mount_setattr","unshare","setns","ptrace","process_vm_readv","process_vm_writev","keyctl","add_key","request_key","bpf","perf_event_open","userfaultfd","io_uring_setup","io_uring_enter","io_uring_register","init_module","finit_module","delete_module","kexec_load","kexec_file_load","reboot","swapon","swapoff","acct","open_by_handle_at","name_to_handle_at","clock_settime","clock_adjtime","settimeofday","adjtimex","syslog","quotactl","sethostname","setdomainname","lookup_dcookie","nfsservctl","iopl","ioperm","vhangup","kcmp","pidfd_getfd","move_pages","migrate_pages","mbind","uselib","ustat","sysfs","_sysctl","fanotify_init","landlock_restrict_self_x",0};
  scmp_filter_ctx c = seccomp_init(SCMP_ACT_ALLOW); if (!c) return -1;
  for (int i = 0; names[i]; i++) deny(c, names[i], EPERM);
  deny(c, "clone3", ENOSYS);
  seccomp_rule_add(c, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(clone), 1, SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_NEWUSER, CLONE_NEWUSER));
  int ns[] = {CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWNET, CLONE_NEWIPC, CLONE_NEWUTS, CLONE_NEWCGROUP};
  for (int i = 0; i < 6; i++) seccomp_rule_add(c, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(clone), 1, SCMP_A0(SCMP_CMP_MASKED_EQ, ns[i], ns[i]));
  seccomp_rule_add(c, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(ioctl), 1, SCMP_A1(SCMP_CMP_MASKED_EQ, 0xffffffff, 0x5412));
  seccomp_rule_add(c, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(ioctl), 1, SCMP_A1(SCMP_CMP_MASKED_EQ, 0xffffffff, 0x541c));
  seccomp_rule_add(c, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(prctl), 2, SCMP_A0(SCMP_CMP_EQ, PR_SET_CHILD_SUBREAPER), SCMP_A1(SCMP_CMP_EQ, 0));
  for (int fam = 0; fam < 46; fam++) if (fam != AF_UNIX && fam != AF_INET && fam != AF_INET6 && fam != AF_NETLINK) seccomp_rule_add(c, SCMP_ACT_ERRNO(EAFNOSUPPORT), SCMP_SYS(socket), 1, SCMP_A0(SCMP_CMP_EQ, fam));
  int r = seccomp_load(c); seccomp_release(c); return r;
}
static long num(const char *s) { char *e; long v = strtol(s, &e, 10); if (!*s || *e) { errno = EINVAL; die(s); } return v; }
static void set_limit(char *text) {
  static const struct { const char *name; int resource; } known[] = {{"NOFILE", RLIMIT_NOFILE}, {"NPROC", RLIMIT_NPROC}, {"FSIZE", RLIMIT_FSIZE}, {"CORE", RLIMIT_CORE}, {"AS", RLIMIT_AS}, {"SIGPENDING", RLIMIT_SIGPENDING}, {"MEMLOCK", RLIMIT_MEMLOCK}, {"MSGQUEUE", RLIMIT_MSGQUEUE}};
  char *eq = strchr(text, '='); if (!eq) { errno = EINVAL; die("rlimit"); }
  *eq = 0; long v = num(eq + 1);
  for (size_t i = 0; i < sizeof known / sizeof *known; i++) if (!strcmp(text, known[i].name)) { struct rlimit l = {v, v}; if (setrlimit(known[i].resource, &l)) die(text); return; }
  errno = EINVAL; die(text);
}
static int run_launch(int argc, char **argv) {
  long uid = -1, gid = -1; int i = 2; pid_t parent = getppid();
  for (; i < argc; i++) {
    if (!strcmp(argv[i], "--")) { i++; break; }
    if (i + 1 >= argc) { errno = EINVAL; die(argv[i]); }
    if (!strcmp(argv[i], "--uid")) uid = num(argv[++i]);
    else if (!strcmp(argv[i], "--gid")) gid = num(argv[++i]);
    else if (!strcmp(argv[i], "--cgroup")) { char path[4096]; snprintf(path, sizeof path, "%s/cgroup.procs", argv[++i]); int fd = open(path, O_WRONLY | O_CLOEXEC); if (fd < 0 || write(fd, "0", 1) != 1) die(path); close(fd); }
    else if (!strcmp(argv[i], "--rlimit")) set_limit(argv[++i]);
    else { errno = EINVAL; die(argv[i]); }
  }
  if (i >= argc) { errno = EINVAL; die("no program"); }
  setsid(); if (close_range(3, ~0u, 0)) die("close_range");
  if (gid >= 0 && (setgroups(0, 0) || setresgid(gid, gid, gid))) die("setgid");
  if (uid >= 0 && setresuid(uid, uid, uid)) die("setuid");
  prctl(PR_SET_PDEATHSIG, SIGKILL); if (getppid() != parent) _exit(125);
  execv(argv[i], argv + i); die(argv[i]); return 125;
}
int main(int argc, char **argv) {
  if (argc > 1 && !strcmp(argv[1], "relay")) return run_relay(argc, argv);
  if (argc > 1 && !strcmp(argv[1], "launch")) return run_launch(argc, argv);
  if (argc > 1 && !strcmp(argv[1], "init")) { for (int i = 2; i + 1 < argc; i += 2) { if (strcmp(argv[i], "--rlimit")) { errno = EINVAL; die(argv[i]); } set_limit(argv[i + 1]); } if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) die("no_new_privs"); if (apply_seccomp()) die("seccomp"); return run_init(); }
  dprintf(2, "usage: sandbox-init launch|init\n"); return 2;
}
