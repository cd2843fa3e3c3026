/*
 * `sandbox-init relay PORT PATH`: carries connections to 127.0.0.1:PORT on to the unix socket PATH, which leads out of
 * the sandbox to its proxy. Writes one line on stdout when it listens. One process, one buffer a direction.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "relay.h"

enum { MAX_PAIRS = 128, BUFFER = 16384 };

/* What was read from one end and is not written to the other yet. */
struct flow { char data[BUFFER]; size_t start, end; int ended, closed; };
/* flow[0] goes from fd[0], the client, to fd[1], the proxy; flow[1] back. */
struct pair { int fd[2]; struct flow flow[2]; };

static struct pair *pairs[MAX_PAIRS];
static int count;

static void drop(int i) {
  close(pairs[i]->fd[0]);
  close(pairs[i]->fd[1]);
  free(pairs[i]);
  pairs[i] = pairs[--count];
}

static int connect_out(const char *path) {
  struct sockaddr_un to = {.sun_family = AF_UNIX};
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  strncpy(to.sun_path, path, sizeof to.sun_path - 1);
  if (connect(fd, (struct sockaddr *)&to, sizeof to) || fcntl(fd, F_SETFL, O_NONBLOCK)) { close(fd); return -1; }
  return fd;
}

static void accept_one(int listener, const char *path) {
  int client = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (client < 0) return;
  int out = connect_out(path);
  struct pair *pair = out < 0 ? NULL : calloc(1, sizeof *pair);
  if (pair == NULL) { close(client); if (out >= 0) close(out); return; }
  pair->fd[0] = client;
  pair->fd[1] = out;
  pairs[count++] = pair;
}

/* Moves what can be moved of one direction. -1 when the pair is broken. */
static int move(struct pair *pair, int side, int readable, int writable) {
  struct flow *flow = &pair->flow[side];
  int from = pair->fd[side], to = pair->fd[!side];
  if (readable && !flow->ended && flow->start == flow->end) {
    ssize_t got = read(from, flow->data, BUFFER);
    if (got < 0 && errno != EAGAIN && errno != EINTR) return -1;
    if (got == 0) flow->ended = 1;
    if (got >= 0) { flow->start = 0; flow->end = (size_t)got; writable = 1; }
  }
  if (writable && flow->start < flow->end) {
    ssize_t put = write(to, flow->data + flow->start, flow->end - flow->start);
    if (put < 0 && errno != EAGAIN && errno != EINTR) return -1;
    if (put > 0) flow->start += (size_t)put;
  }
  if (flow->ended && flow->start == flow->end && !flow->closed) { flow->closed = 1; shutdown(to, SHUT_WR); }
  return 0;
}

static short wanted(struct pair *pair, int side) {
  struct flow *in = &pair->flow[side], *out = &pair->flow[!side];
  short events = 0;
  if (!in->ended && in->start == in->end) events |= POLLIN;
  if (out->start < out->end) events |= POLLOUT;
  return events;
}

static int listen_on(int port) {
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), yes = 1;
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (fd < 0) return -1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  if (bind(fd, (struct sockaddr *)&at, sizeof at) || listen(fd, MAX_PAIRS)) return -1;
  return fd;
}

int run_relay(int argc, char **argv) {
  struct pollfd polls[1 + 2 * MAX_PAIRS];
  if (argc != 4) return 2;
  signal(SIGPIPE, SIG_IGN);
  int listener = listen_on(atoi(argv[2]));
  if (listener < 0) { perror("relay"); return 1; }
  if (write(1, "ready\n", 6) != 6) return 1;
  for (;;) {
    polls[0] = (struct pollfd){.fd = count < MAX_PAIRS ? listener : -1, .events = POLLIN};
    for (int i = 0; i < count; i++)
      for (int side = 0; side < 2; side++) {
        short events = wanted(pairs[i], side);
        /* A hung-up end with nothing to wait for would wake the loop for ever. */
        polls[1 + 2 * i + side] = (struct pollfd){.fd = events ? pairs[i]->fd[side] : -1, .events = events};
      }
    int watched = count;
    if (poll(polls, (nfds_t)(1 + 2 * watched), -1) < 0 && errno != EINTR) return 1;
    for (int i = watched - 1; i >= 0; i--) {
      short client = polls[1 + 2 * i].revents, proxy = polls[2 + 2 * i].revents;
      int ready = POLLIN | POLLHUP | POLLERR;
      int broken = move(pairs[i], 0, client & ready, proxy & (POLLOUT | POLLERR)) ||
                   move(pairs[i], 1, proxy & ready, client & (POLLOUT | POLLERR));
      if (broken || (pairs[i]->flow[0].closed && pairs[i]->flow[1].closed)) drop(i);
    }
    if (polls[0].revents & POLLIN) accept_one(listener, argv[3]);
  }
}
