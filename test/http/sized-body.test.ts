import { afterAll, expect, test } from "bun:test";
import { readdirSync, readlinkSync } from "node:fs";
import { sizedBody } from "../../src/http/sized-body.ts";

const MIB = 1024 ** 2;

/** `count` pieces of a MiB, each of other bytes. */
function body(count: number): ReadableStream<Uint8Array> {
  let i = 0;
  return new ReadableStream(
    { pull: (controller) => (i < count ? controller.enqueue(new Uint8Array(MIB).fill(++i)) : controller.close()) },
    { highWaterMark: 0 },
  );
}

const sized = (stream: ReadableStream<Uint8Array>, length: number, signal = new AbortController().signal) =>
  sizedBody(stream, length, signal, 100);

/** No file of these tests is open any more, whose number others look at. */
afterAll(async () => {
  const isOpen = (fd: string): boolean => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).includes("sandbox-spool");
    } catch {
      return false;
    }
  };
  const end = performance.now() + 5000;
  while (readdirSync("/proc/self/fd").filter(isOpen).length > 3 && performance.now() < end) await Bun.sleep(20);
});

test("small and large bodies go out with their length, whole, and their files have no name", async () => {
  const server = Bun.serve({
    port: 0,
    fetch: async ({ url }) => {
      const count = Number(new URL(url).searchParams.get("mib"));
      return new Response(await sized(body(count), count * MIB));
    },
  });
  try {
    for (const count of [0, 1, 20]) {
      const answer = await fetch(`${server.url.href}?mib=${count}`);
      expect(answer.headers.get("content-length")).toBe(String(count * MIB));
      const bytes = new Uint8Array(await answer.arrayBuffer());
      expect([bytes.length, bytes.at(-1) ?? 0]).toEqual([count * MIB, count]);
    }
    expect([...new Bun.Glob(`sandbox-spool-${process.pid}-*`).scanSync("/tmp")]).toEqual([]);
  } finally {
    await server.stop(true);
  }
});

test("past the room for large ones a body goes as it comes", async () => {
  const large = body(1);
  expect(await sized(large, 513 * MIB)).toBe(large);
  const held = Array.from({ length: 3 }, () => new ReadableStream<Uint8Array>({}));
  const reading = held.map((stream) => sized(stream, 128 * MIB).catch(() => {}));
  const next = body(1);
  expect(await sized(next, 129 * MIB)).toBe(next);
  for (const stream of held) expect(stream.locked).toBe(true);
  void reading;
});

test("fewer and more bytes than announced, and a source that breaks, are errors before anything is sent", async () => {
  for (const [count, length] of [
    [1, 2 * MIB],
    [3, 2 * MIB],
    [1, MIB - 1],
  ] as const)
    expect(await sized(body(count), length).catch((error: unknown) => error)).toMatchObject({
      code: "executor_unavailable",
    });
  const broken = new ReadableStream<Uint8Array>({ pull: () => Promise.reject(new Error("reset")) });
  expect(await sized(broken, 5).catch((error: unknown) => error)).toMatchObject({ code: "executor_unavailable" });
});
