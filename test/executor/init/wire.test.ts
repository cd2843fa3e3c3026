import { expect, test } from "bun:test";
import {
  encodeFrame,
  encodeInput,
  encodeStart,
  FrameDecoder,
  FrameType,
  parseExit,
  parseStartFailed,
  type Frame,
} from "../../../src/executor/init/frames.ts";
import { initCommand } from "./fixture.ts";
import golden from "./golden.json" with { type: "json" };

const { toInit, fromInit } = golden;
const SCRIPT = "cat; cat <&3 >&2; printf é >&4";

function hex(bytes: Uint8Array | undefined): string {
  return Buffer.from(bytes ?? []).toString("hex");
}

function decode(text: string): Frame {
  const [frame] = new FrameDecoder().push(Buffer.from(text, "hex"));
  if (frame === undefined) throw new Error("not a whole frame");
  return frame;
}

test("the executor writes the bytes that are agreed", () => {
  const command = {
    argv: ["/bin/sh", "-c", SCRIPT],
    env: { A: "1" },
    cwd: "/tmp",
  };
  const nothing = { argv: ["/none"], env: {}, cwd: "/" };
  const later = { argv: ["/bin/cat"], env: {}, cwd: "/" };
  const encoded: Record<keyof typeof toInit, string> = {
    start: hex(encodeFrame(FrameType.START, 7, encodeStart(command))),
    stdin: hex(encodeInput(FrameType.STDIN, 7, Buffer.from("in\n"))[0]),
    stdinEnd: hex(encodeInput(FrameType.STDIN, 7, Buffer.alloc(0))[0]),
    jobEnd: hex(encodeInput(FrameType.JOB, 7, Buffer.alloc(0))[0]),
    startOfNothing: hex(encodeFrame(FrameType.START, 0x01020304, encodeStart(nothing))),
    startForLater: hex(encodeFrame(FrameType.START, 9, encodeStart(later))),
    killLater: hex(encodeFrame(FrameType.KILL, 9)),
    kill: hex(encodeFrame(FrameType.KILL, 8)),
    ping: hex(encodeFrame(FrameType.PING, 0, Buffer.from("ping"))),
    unknown: hex(encodeFrame(0x7f, 10)),
  };
  expect(encoded).toEqual(toInit);
});

test("the executor reads the bytes that are agreed", () => {
  expect(decode(fromInit.ready)).toMatchObject({ type: FrameType.READY, flags: 0, id: 0 });
  expect(decode(fromInit.stdout)).toMatchObject({ type: FrameType.STDOUT, id: 7, payload: Buffer.from("in\n") });
  expect(decode(fromInit.result)).toMatchObject({ type: FrameType.RESULT, id: 7, payload: Buffer.from("é") });
  expect(decode(fromInit.killed)).toMatchObject({ type: FrameType.KILLED, id: 8 });
  expect(decode(fromInit.pong)).toMatchObject({ type: FrameType.PONG, payload: Buffer.from("ping") });
  expect(decode(fromInit.protocolError)).toMatchObject({ type: FrameType.PROTOCOL_ERROR, id: 10 });
  const failed = decode(fromInit.startFailed);
  expect(failed.id).toBe(0x01020304);
  expect(parseStartFailed(failed.payload)).toEqual({ errno: 2, message: "/none: No such file or directory" });
  const usage = [1n, 2n, 3n, 4n, 5n].map((value) => hex(new Uint8Array(new BigUint64Array([value]).buffer))).join("");
  expect(parseExit(decode(fromInit.exitHead + usage).payload)).toEqual({
    waitStatus: 9,
    userUs: 1,
    systemUs: 2,
    maxRssKb: 3,
    blocksRead: 4,
    blocksWritten: 5,
  });
});

test("init reads and writes the bytes that are agreed", async () => {
  const child = Bun.spawn(await initCommand("jailed"), { stdin: "pipe", stdout: "pipe", stderr: "inherit" });
  let got = "";
  const read = (async () => {
    for await (const chunk of child.stdout) {
      got += hex(chunk);
      const isCatStarted = got.includes("040000004200000009000000");
      if (isCatStarted && !got.includes(fromInit.exitHead))
        void child.stdin.write(Buffer.from(toInit.killLater, "hex"));
      if (got.includes(fromInit.exitHead) && got.includes("4600000007000000")) void child.stdin.end();
      void child.stdin.flush();
    }
  })();
  const { start, stdin, stdinEnd, jobEnd, startOfNothing, startForLater, kill, ping, unknown } = toInit;
  const bytes = [start, stdin, stdinEnd, jobEnd, startOfNothing, startForLater, kill, ping, unknown].join("");
  void child.stdin.write(Buffer.from(bytes, "hex"));
  void child.stdin.flush();
  await read;
  expect(await child.exited).toBe(0);
  expect(got.startsWith(fromInit.ready)).toBe(true);
  for (const bytes of Object.values(fromInit)) expect(got).toContain(bytes);
});
