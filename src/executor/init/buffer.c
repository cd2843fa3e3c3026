#include "init.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* A buffer that once was large is given back when it is empty: a sandbox may idle for hours. */
enum { SMALLEST = 4096, KEPT = 256 << 10 };

void die(const char *what) {
  dprintf(2, "sandbox-init: %s: %s\n", what, strerror(errno));
  _exit(125);
}

uint64_t now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

void close_fd(int *fd) {
  if (*fd >= 0) close(*fd);
  *fd = -1;
}

uint8_t *buffer_reserve(struct buffer *b, size_t n) {
  if (b->size - b->end < n && b->start > 0) {
    memmove(b->data, b->data + b->start, buffer_length(b));
    b->end -= b->start;
    b->start = 0;
  }
  if (b->size - b->end < n) {
    size_t size = b->size ? b->size : SMALLEST;
    while (size - b->end < n) size *= 2;
    uint8_t *data = realloc(b->data, size);
    if (data == NULL) die("memory");
    b->data = data;
    b->size = size;
  }
  return b->data + b->end;
}

void buffer_add(struct buffer *b, const void *data, size_t n) {
  if (n == 0) return;
  memcpy(buffer_reserve(b, n), data, n);
  b->end += n;
}

void buffer_drop(struct buffer *b, size_t n) {
  b->start += n;
  if (b->start < b->end) return;
  b->start = b->end = 0;
  if (b->size > KEPT) buffer_free(b);
}

void buffer_free(struct buffer *b) {
  free(b->data);
  *b = (struct buffer){0};
}
