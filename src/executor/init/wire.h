/*
 * The wire between an executor and init; frames.ts is its other end. A frame is a header of 12 bytes (u32 payload length,
 * u8 type, u8 flags, u16 zero, u32 number of the process) and its payload. Numbers are little endian.
 */
#pragma once
#include <stdint.h>

enum {
  START = 0x01,
  STDIN = 0x02,
  JOB = 0x03,
  KILL = 0x05,
  ZYGOTE = 0x06,
  PING = 0x07,
  READY = 0x41,
  STARTED = 0x42,
  STDOUT = 0x43,
  STDERR = 0x44,
  RESULT = 0x45,
  EXIT = 0x46,
  START_FAILED = 0x47,
  KILLED = 0x48,
  PONG = 0x49,
  ZYGOTE_STATE = 0x4a,
  PROTOCOL_ERROR = 0x4c,
};

enum { TAG_ARGV = 1, TAG_ENV = 2, TAG_CWD = 3, TAG_FLAGS = 5 };

enum {
  HEADER_BYTES = 12,
  EXIT_BYTES = 44,
  LAST_CHUNK = 1,     /* flag of STDIN and JOB: the pipe is closed after it */
  START_ZYGOTE = 1,   /* flag of START: a fork of the zygote; its command only when there is none */
  WIRE_VERSION = 1,
  READY_SECCOMP = 1,  /* flag of READY: the filter is in force */
  MAX_PAYLOAD = 2 << 20,
  MAX_OUTPUT = 64 << 10,
};

static inline void put32(uint8_t *p, uint32_t v) {
  for (int i = 0; i < 4; i++) p[i] = (uint8_t)(v >> 8 * i);
}

static inline void put64(uint8_t *p, uint64_t v) {
  put32(p, (uint32_t)v);
  put32(p + 4, (uint32_t)(v >> 32));
}

static inline uint32_t get32(const uint8_t *p) {
  return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

