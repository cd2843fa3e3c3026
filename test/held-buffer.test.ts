import { afterEach, expect, test } from "bun:test";
import { HeldBuffer, MAX_HELD_BYTES } from "../src/held-buffer.ts";

const MEBIBYTE = 1024 ** 2;
const made: HeldBuffer[] = [];
afterEach(() => {
  for (const buffer of made.splice(0)) buffer.clear();
});

function filled(mebibytes: number): HeldBuffer {
  const buffer = new HeldBuffer();
  made.push(buffer);
  if (mebibytes > 0) buffer.add(new Uint8Array(mebibytes * MEBIBYTE));
  return buffer;
}

test("pieces come out whole", () => {
  const buffer = new HeldBuffer();
  const bytes = Buffer.from("some bytes that come one by one ".repeat(500));
  for (const byte of bytes) buffer.add(Uint8Array.of(byte));
  expect(buffer.size).toBe(bytes.length);
  expect(Buffer.from(buffer.take(Buffer.from("."))).toString()).toBe(`${bytes.toString()}.`);
  expect(buffer.size).toBe(0);
  expect(Buffer.from(buffer.take(Buffer.from("next"))).toString()).toBe("next");
});

test("when there is too much of all, the largest is dropped, and who is small goes on", () => {
  const small = filled(0);
  small.add(Buffer.from("small"));
  const medium = filled(40);
  const large = filled(MAX_HELD_BYTES / MEBIBYTE - 50);
  expect(large.size).toBeGreaterThan(0);
  const next = filled(20);
  expect([large.size, medium.size, next.size]).toEqual([0, 40 * MEBIBYTE, 20 * MEBIBYTE]);
  expect(() => large.add(new Uint8Array(1))).toThrow("no room");
  expect(() => large.take(new Uint8Array())).toThrow("no room");
  expect(Buffer.from(small.take(new Uint8Array())).toString()).toBe("small");
});

test("one that is itself the largest is the one that goes; what was cleared counts no more", () => {
  const first = filled(MAX_HELD_BYTES / MEBIBYTE - 10);
  first.clear();
  const others = [filled(80), filled(80)];
  const own = filled(0);
  expect(() => own.add(new Uint8Array(100 * MEBIBYTE))).toThrow("no room");
  expect(others.map(({ size }) => size)).toEqual([80 * MEBIBYTE, 80 * MEBIBYTE]);
});
