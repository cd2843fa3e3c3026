#include "init.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct buffer frame_queue;
bool frames_are_urgent;

static void write_header(uint8_t *at, uint8_t type, uint32_t id, size_t n) {
  memset(at, 0, HEADER_BYTES);
  put32(at, (uint32_t)n);
  at[4] = type;
  put32(at + 8, id);
}

uint8_t *frame_reserve(size_t n) { return buffer_reserve(&frame_queue, HEADER_BYTES + n) + HEADER_BYTES; }

void frame_commit(uint8_t type, uint32_t id, size_t n) {
  write_header(frame_queue.data + frame_queue.end, type, id, n);
  frame_queue.end += HEADER_BYTES + n;
  frames_are_urgent |= type != STARTED;
}

void frame_send(uint8_t type, uint32_t id, const void *payload, size_t n) {
  uint8_t *at = frame_reserve(n);
  if (n > 0) memcpy(at, payload, n);
  frame_commit(type, id, n);
}

void frame_number(uint8_t type, uint32_t id, uint32_t number) {
  put32(frame_reserve(4), number);
  frame_commit(type, id, 4);
}

void frame_text(uint8_t type, uint32_t id, const char *text) { frame_send(type, id, text, strlen(text)); }

bool frames_flush(void) {
  if (!frames_are_urgent) return true;
  while (buffer_length(&frame_queue) > 0) {
    ssize_t n = write(1, frame_queue.data + frame_queue.start, buffer_length(&frame_queue));
    if (n < 0 && errno == EAGAIN) return true;
    if (n < 0 && errno != EINTR) return false;
    if (n > 0) buffer_drop(&frame_queue, (size_t)n);
  }
  frames_are_urgent = false;
  return true;
}

struct item { uint8_t tag; uint32_t length; const uint8_t *bytes; };

/* 1 with the next item of a payload, 0 at its end, -1 when it is malformed. */
static int next_item(const uint8_t **at, size_t *left, struct item *item) {
  if (*left == 0) return 0;
  if (*left < 5) return -1;
  *item = (struct item){(*at)[0], get32(*at + 1), *at + 5};
  if (item->length > *left - 5) return -1;
  *at += 5 + item->length;
  *left -= 5 + item->length;
  bool is_text = item->tag == TAG_ARGV || item->tag == TAG_ENV || item->tag == TAG_CWD;
  return is_text && memchr(item->bytes, 0, item->length) ? -1 : 1;
}

bool command_parse(struct command *c, const uint8_t *payload, size_t n) {
  struct item item;
  size_t left = n, argc = 0, envc = 0, text = 0;
  const uint8_t *at = payload;
  int got;
  *c = (struct command){0};
  while ((got = next_item(&at, &left, &item)) > 0) {
    argc += item.tag == TAG_ARGV;
    envc += item.tag == TAG_ENV;
    text += item.length + 1;
    if (item.tag != TAG_FLAGS) continue;
    if (item.length != 4) return false;
    c->flags = get32(item.bytes);
  }
  if (got < 0 || argc == 0) return false;
  c->memory = malloc((argc + envc + 2) * sizeof(char *) + text);
  if (c->memory == NULL) die("memory");
  c->argv = (char **)c->memory;
  c->env = c->argv + argc + 1;
  char *to = (char *)(c->env + envc + 1);
  argc = envc = 0;
  for (at = payload, left = n; next_item(&at, &left, &item) > 0;) {
    if (item.tag == TAG_ARGV) c->argv[argc++] = to;
    else if (item.tag == TAG_ENV) c->env[envc++] = to;
    else if (item.tag == TAG_CWD) c->cwd = to;
    else continue;
    memcpy(to, item.bytes, item.length);
    to[item.length] = 0;
    to += item.length + 1;
  }
  c->argv[argc] = c->env[envc] = NULL;
  return true;
}

void command_free(struct command *c) {
  free(c->memory);
  *c = (struct command){0};
}
