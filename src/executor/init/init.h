/* What the files of init share. Init has one thread and one loop (loop.c); nothing in it waits anywhere else. */
#pragma once
#define _GNU_SOURCE /* so this comes before the headers of the system */
#include <stdbool.h>
#include <stddef.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "wire.h"

/* Bytes [start, end) of data are held. */
struct buffer { uint8_t *data; size_t start, end, size; };

static inline size_t buffer_length(const struct buffer *b) { return b->end - b->start; }
/* Room for n bytes more, at the returned place. Init ends when there is no memory. */
uint8_t *buffer_reserve(struct buffer *b, size_t n);
void buffer_add(struct buffer *b, const void *data, size_t n);
/* Takes n bytes off the front. */
void buffer_drop(struct buffer *b, size_t n);
void buffer_free(struct buffer *b);

/* A line on stderr with errno's meaning, and exit code 125: nothing was run. */
_Noreturn void die(const char *what);
uint64_t now_ms(void);
void close_fd(int *fd);

/*
 * The frames that wait to be written to the executor: above QUEUE_HIGH no output of programs is read, above QUEUE_MOST no
 * frames either, since most are answered.
 */
enum { QUEUE_HIGH = 1 << 20, QUEUE_MOST = 4 << 20 };
extern struct buffer frame_queue;
static inline bool frames_are_full(void) { return buffer_length(&frame_queue) > QUEUE_HIGH; }
void frame_send(uint8_t type, uint32_t id, const void *payload, size_t n);
void frame_number(uint8_t type, uint32_t id, uint32_t number);
void frame_text(uint8_t type, uint32_t id, const char *text);
/* A frame whose payload of at most n bytes is filled in at the returned place; it is none until frame_commit. */
uint8_t *frame_reserve(size_t n);
void frame_commit(uint8_t type, uint32_t id, size_t n);
/* Whether a frame waits that should not wait for others. */
extern bool frames_are_urgent;
/* Writes what the executor takes now. False when it is gone. */
bool frames_flush(void);

/* A program to start; argv, env and cwd lie in one allocation, which memory points to. */
struct command {
  char *memory, **argv, **env, *cwd;
  uint32_t flags;
};
/* False when the payload is malformed or names no program: nothing is allocated then. */
bool command_parse(struct command *c, const uint8_t *payload, size_t n);
void command_free(struct command *c);

enum { IN_STDIN, IN_JOB, INPUTS };
enum { OUT_STDOUT, OUT_STDERR, OUT_RESULT, OUTPUTS };
enum { PIPES = INPUTS + OUTPUTS, MAX_PROCESSES = 256, NEW_MS = 3 };

struct input { int fd; bool ends, nonblocking, used; struct buffer held; };
/* left: bytes that were in the pipe when the leader ended. */
struct output { int fd; size_t left; };

enum ending { END_NONE, END_WANTED, END_GOING, END_DONE };

/* One execution: its leader and the pipes to it. */
struct process {
  uint32_t id;
  pid_t pid; /* 0 until there is one */
  struct command command;
  struct input in[INPUTS];
  struct output out[OUTPUTS];
  int theirs[PIPES]; /* the child's ends, by their number in the child, while it has not got them */
  int startup;       /* pipe that ends when the exec has happened, or gives its errno; else -1 */
  bool asked;        /* the zygote has its pipes and has not answered */
  uint64_t asked_ms;
  /* For NEW_MS from here on the executor is not woken for STARTED or RESULT alone: most programs end within that time. */
  bool is_new;
  uint64_t started_ms;
  bool exited;
  int status;
  struct rusage usage;
  enum ending ending;
  int ending_rounds;
};

extern struct process *live[MAX_PROCESSES];
extern int live_count;

struct process *process_find(uint32_t id);
void process_start(uint32_t id, const uint8_t *payload, size_t n);
/* Starts the command in a child, whether or not the zygote was asked before. */
void process_exec(struct process *p);
/* It runs: says so, and gives it its input. */
void process_started(struct process *p);
/*
 * After process.startup became readable or ended, which is awaited in the loop: the sandbox can stop the child before it
 * execs. False when it did not exec; p is forgotten then.
 */
bool process_startup(struct process *p);
void process_input(uint32_t id, int which, bool is_last, const uint8_t *data, size_t n);
void process_write(struct process *p, struct input *in);
/* Reads once. is_hung: nobody has the other end any more. */
void process_read(struct process *p, int which, bool is_hung);
void process_exited(struct process *p, int status, const struct rusage *usage);
/* Sends EXIT of a leader that has ended once its output was read and nothing of it is to be killed; forgets it then. */
void process_finish(struct process *p);

/* A child of init from here on: default signals, a session of its own, none of init's descriptors above `kept`. */
void child_prepare(const struct command *c, int kept);

void zygote_define(uint32_t id, const uint8_t *payload, size_t n);
/* Hands the child's ends of p's pipes over. False when there is no zygote to take them. */
bool zygote_ask(struct process *p);
int zygote_socket(void);
void zygote_read(void);
/* True when pid was the zygote's. */
bool zygote_reaped(pid_t pid);
/* A child that is nobody's yet: it may be one of which the zygote will tell. */
void zygote_remember(pid_t pid, int status, const struct rusage *usage);
/* Does what is due; returns the milliseconds until there is more to do, or -1. */
int zygote_tick(void);

/* Ends all processes of an execution, a step each tick, and answers KILLED when none is left. */
void kill_execution(uint32_t id);
void kill_begin(struct process *p);
/* True when another step is needed soon. */
bool kill_tick(void);
/* Ends all processes but init. */
void kill_everything(void);

extern bool is_pid_one;
_Noreturn void loop_run(void);

int seccomp_apply(void);
void limit_set(char *name_and_value);
int launch_run(int argc, char **argv);
