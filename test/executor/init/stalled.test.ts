import { afterEach, beforeEach, expect, test } from "bun:test";
import { closeSync, constants, mkdtempSync, openSync, readFileSync, readSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { encodeFrame, encodeStart, FrameType } from "../../../src/executor/init/frames.ts";
import { initCommand } from "./fixture.ts";

const READY_BYTES = 20;
const MOST_KB = 16_000;
const FLOOD = { argv: ["/bin/cat", "/dev/zero"], env: {}, cwd: "/" };

let directory: string;
let unread: number;
let child: Bun.Subprocess<"pipe", number, "pipe">;
let pid: number;

async function until(isMet: () => boolean): Promise<void> {
  const deadline = performance.now() + 5000;
  while (!isMet()) {
    if (performance.now() > deadline) throw new Error("did not come to be so in 5 s");
    await Bun.sleep(5);
  }
}

const children = (of: number): string[] =>
  readFileSync(`/proc/${of}/task/${of}/children`, "utf8").trim().split(" ").filter(Boolean);

const residentKb = (): number => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]);

/** Microseconds that init has computed. */
const computed = (): number => Number(readFileSync(`/proc/${pid}/schedstat`, "utf8").split(" ")[0]) / 1000;

/** Resolves once init has had nothing to do for a while. */
async function idle(): Promise<void> {
  let before = -1;
  let since = performance.now();
  await until(() => {
    const now = computed();
    if (now - before > 1000) {
      before = now;
      since = performance.now();
    }
    return performance.now() - since > 200;
  });
}

function send(...frames: Uint8Array[]): void {
  // What is left of it at init's end is nobody's concern.
  const ignore = (): void => {};
  Promise.resolve(child.stdin.write(Buffer.concat(frames))).catch(ignore);
  Promise.resolve(child.stdin.flush()).catch(ignore);
}

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), "sandbox-stalled-"));
  const path = join(directory, "fifo");
  await Bun.$`mkfifo ${path}`.quiet();
  unread = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  const written = openSync(path, "w");
  child = Bun.spawn(await initCommand("jailed"), { stdin: "pipe", stdout: written, stderr: "pipe" });
  closeSync(written);
  let got = 0;
  await until(() => {
    try {
      got += readSync(unread, Buffer.alloc(READY_BYTES - got));
    } catch (error) {
      if (!(error instanceof Error && "code" in error && error.code === "EAGAIN")) throw error;
    }
    return got === READY_BYTES;
  });
  pid = Number(children(child.pid)[0]);
});

afterEach(async () => {
  child.kill("SIGKILL");
  await child.exited;
  rmSync(directory, { recursive: true });
});

test("programs wait while nobody reads their output, and can be killed", async () => {
  const ids = Array.from({ length: 20 }, (_, i) => i + 1);
  send(...ids.map((id) => encodeFrame(FrameType.START, id, encodeStart(FLOOD))));
  await until(() => children(pid).length === ids.length);
  await idle();
  expect(residentKb()).toBeLessThan(MOST_KB);
  send(...ids.map((id) => encodeFrame(FrameType.KILL, id)));
  await until(() => children(pid).length === 0);
  closeSync(unread);
  expect(await child.exited).toBe(0);
});

test("questions wait while nobody reads the answers, and init ends when nobody can", async () => {
  for (let i = 0; i < 40; i++) send(Buffer.concat(Array.from({ length: 50_000 }, () => encodeFrame(0x7f, i))));
  await idle();
  expect(residentKb()).toBeLessThan(MOST_KB);
  closeSync(unread);
  expect(await child.exited).toBe(0);
});
