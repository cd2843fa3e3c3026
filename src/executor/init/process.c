#include "init.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum {
  MAX_HELD = 16 << 20, /* of one input */
  SAFE_WRITE = 4096,   /* an empty pipe always has room for so much */
};

static const uint8_t OUTPUT_TYPE[OUTPUTS] = {STDOUT, STDERR, RESULT};
/* By the number of the descriptor in the child. */
static const struct { bool is_input; int which; } PIPE[PIPES] = {
    {true, IN_STDIN}, {false, OUT_STDOUT}, {false, OUT_STDERR}, {true, IN_JOB}, {false, OUT_RESULT}};

static struct process table[MAX_PROCESSES];
struct process *live[MAX_PROCESSES];
int live_count;

/* The entries from live_count on are those of the table that are free. */
static struct process *allocate(uint32_t id) {
  if (live[0] == NULL)
    for (int i = 0; i < MAX_PROCESSES; i++) live[i] = &table[i];
  struct process *p = live[live_count++];
  *p = (struct process){.id = id, .startup = -1};
  for (int i = 0; i < INPUTS; i++) p->in[i].fd = -1;
  for (int i = 0; i < OUTPUTS; i++) p->out[i].fd = -1;
  for (int i = 0; i < PIPES; i++) p->theirs[i] = -1;
  return p;
}

static void close_theirs(struct process *p) {
  for (int i = 0; i < PIPES; i++) close_fd(&p->theirs[i]);
}

static void close_ours(struct process *p) {
  for (int i = 0; i < INPUTS; i++) close_fd(&p->in[i].fd);
  for (int i = 0; i < OUTPUTS; i++) close_fd(&p->out[i].fd);
}

static void forget(struct process *p) {
  close_theirs(p);
  close_ours(p);
  close_fd(&p->startup);
  for (int i = 0; i < INPUTS; i++) buffer_free(&p->in[i].held);
  command_free(&p->command);
  for (int i = 0; i < live_count; i++)
    if (live[i] == p) {
      live[i] = live[--live_count];
      live[live_count] = p;
    }
}

struct process *process_find(uint32_t id) {
  for (int i = 0; i < live_count; i++)
    if (live[i]->id == id) return live[i];
  return NULL;
}

static void start_failed(struct process *p, int error) {
  uint8_t *at = frame_reserve(4 + 256);
  put32(at, (uint32_t)error);
  int n = snprintf((char *)at + 4, 256, "%s: %s", p->command.argv[0], strerror(error));
  frame_commit(START_FAILED, p->id, 4 + (size_t)(n < 256 ? n : 255));
  if (p->ending != END_NONE) frame_send(KILLED, p->id, NULL, 0);
  forget(p);
}

/* Inputs are left blocking: most are written at once into an empty pipe. */
static bool open_pipes(struct process *p) {
  for (int i = 0; i < PIPES; i++) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC)) return false;
    p->theirs[i] = ends[!PIPE[i].is_input];
    if (PIPE[i].is_input) p->in[PIPE[i].which].fd = ends[1];
    else p->out[PIPE[i].which].fd = ends[0];
    if (!PIPE[i].is_input && fcntl(ends[0], F_SETFL, O_NONBLOCK)) return false;
  }
  return true;
}

void process_start(uint32_t id, const uint8_t *payload, size_t n) {
  struct command command;
  if (process_find(id)) return frame_text(PROTOCOL_ERROR, id, "this number is in use");
  if (live_count == MAX_PROCESSES) return frame_text(PROTOCOL_ERROR, id, "too many processes at once");
  if (!command_parse(&command, payload, n)) return frame_text(PROTOCOL_ERROR, id, "a malformed START");
  struct process *p = allocate(id);
  p->command = command;
  if (!open_pipes(p)) return start_failed(p, errno);
  if ((command.flags & START_ZYGOTE) && zygote_ask(p)) return;
  process_exec(p);
}

static _Noreturn void exec_in_child(struct process *p, int report) {
  for (int i = 0; i < PIPES; i++) dup2(p->theirs[i], i); /* none of them is below PIPES: see loop.c */
  if (report != PIPES) dup3(report, PIPES, O_CLOEXEC);
  child_prepare(&p->command, PIPES);
  execve(p->command.argv[0], p->command.argv, p->command.env);
  int error = errno;
  if (write(PIPES, &error, sizeof error) < 0) _exit(126);
  _exit(127);
}

void process_exec(struct process *p) {
  int report[2];
  if (p->asked) {
    /* A zygote that died may have made a child after all. It must find a job that ends before it begins. */
    p->asked = false;
    close_theirs(p);
    close_ours(p);
    if (!open_pipes(p)) return start_failed(p, errno);
  }
  if (pipe2(report, O_CLOEXEC)) return start_failed(p, errno);
  pid_t pid = fork();
  if (pid == 0) exec_in_child(p, report[1]);
  int error = errno;
  close(report[1]);
  p->startup = report[0];
  if (pid < 0) return start_failed(p, error);
  close_theirs(p);
  p->pid = pid;
  if (p->ending == END_WANTED) kill_begin(p);
}

bool process_startup(struct process *p) {
  int error = 0;
  ssize_t n = read(p->startup, &error, sizeof error);
  close_fd(&p->startup);
  if (n != (ssize_t)sizeof error) {
    process_started(p);
    return true;
  }
  if (!p->exited) kill(p->pid, SIGKILL);
  start_failed(p, error);
  return false;
}

void process_started(struct process *p) {
  close_theirs(p);
  p->is_new = true;
  p->started_ms = now_ms();
  frame_number(STARTED, p->id, (uint32_t)p->pid);
  for (int i = 0; i < INPUTS; i++) process_write(p, &p->in[i]);
  if (p->ending == END_WANTED) kill_begin(p);
}

static bool has_started(const struct process *p) { return p->pid != 0 && p->startup < 0; }

/* Bytes that were taken; all of them when the other end is closed. */
static size_t write_some(struct input *in, const uint8_t *data, size_t n) {
  if (!in->nonblocking && (in->used || n > SAFE_WRITE)) in->nonblocking = fcntl(in->fd, F_SETFL, O_NONBLOCK) == 0;
  in->used = true;
  ssize_t put = write(in->fd, data, n);
  if (put >= 0) return (size_t)put;
  if (errno == EAGAIN || errno == EINTR) return 0;
  close_fd(&in->fd);
  return n;
}

void process_write(struct process *p, struct input *in) {
  if (in->fd < 0 || !has_started(p)) return;
  size_t n = buffer_length(&in->held);
  if (n > 0) buffer_drop(&in->held, write_some(in, in->held.data + in->held.start, n));
  if (buffer_length(&in->held) > 0) return;
  buffer_free(&in->held);
  if (in->ends) close_fd(&in->fd);
}

void process_input(uint32_t id, int which, bool is_last, const uint8_t *data, size_t n) {
  struct process *p = process_find(id);
  if (p == NULL || p->in[which].fd < 0 || p->in[which].ends) return;
  struct input *in = &p->in[which];
  if (buffer_length(&in->held) + n > MAX_HELD) return frame_text(PROTOCOL_ERROR, id, "too much input at once");
  in->ends = is_last;
  if (n > 0 && has_started(p) && buffer_length(&in->held) == 0) {
    size_t put = write_some(in, data, n);
    data += put;
    n -= put;
  }
  buffer_add(&in->held, data, n);
  if (n == 0) process_write(p, in);
}

static void read_chunk(struct process *p, int which, size_t most, bool is_hung) {
  struct output *out = &p->out[which];
  ssize_t n = read(out->fd, frame_reserve(MAX_OUTPUT), most < MAX_OUTPUT ? most : MAX_OUTPUT);
  bool is_over = n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR);
  if (n > 0) frame_commit(OUTPUT_TYPE[which], p->id, (size_t)n);
  if (p->exited) {
    out->left = n > 0 ? out->left - (size_t)n : 0;
    is_over = out->left == 0;
  }
  if (is_over || (is_hung && n > 0 && n < MAX_OUTPUT)) close_fd(&out->fd);
}

void process_read(struct process *p, int which, bool is_hung) { read_chunk(p, which, MAX_OUTPUT, is_hung); }

void process_exited(struct process *p, int status, const struct rusage *usage) {
  p->exited = true;
  p->status = status;
  p->usage = *usage;
  if (p->startup >= 0 && !process_startup(p)) return;
  for (int i = 0; i < OUTPUTS; i++) {
    int n = 0;
    if (p->out[i].fd < 0) continue;
    if (ioctl(p->out[i].fd, FIONREAD, &n) || n <= 0) close_fd(&p->out[i].fd);
    p->out[i].left = (size_t)n;
  }
  process_finish(p);
}

/* What others write into the pipes from now on is not the leader's: it doesn't delay the end. */
void process_finish(struct process *p) {
  if (!p->exited) return;
  for (int i = 0; i < OUTPUTS; i++)
    while (p->out[i].fd >= 0) {
      if (frames_are_full()) return;
      read_chunk(p, i, p->out[i].left, false);
    }
  if (p->ending == END_GOING) return;
  const struct rusage *u = &p->usage;
  uint8_t *at = frame_reserve(EXIT_BYTES);
  put32(at, (uint32_t)p->status);
  put64(at + 4, (uint64_t)u->ru_utime.tv_sec * 1000000 + (uint64_t)u->ru_utime.tv_usec);
  put64(at + 12, (uint64_t)u->ru_stime.tv_sec * 1000000 + (uint64_t)u->ru_stime.tv_usec);
  put64(at + 20, (uint64_t)u->ru_maxrss);
  put64(at + 28, (uint64_t)u->ru_inblock);
  put64(at + 36, (uint64_t)u->ru_oublock);
  frame_commit(EXIT, p->id, EXIT_BYTES);
  if (p->ending != END_NONE) frame_send(KILLED, p->id, NULL, 0);
  forget(p);
}
