import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { encodeFrame, encodeInput, encodeStart, FrameType } from "../../../src/executor/init/frames.ts";
import { Init, PLACES } from "./fixture.ts";

const MB = 1_000_000;
const EXIT_CODE = 256;

describe.each([...PLACES])("programs of a %s init", (place) => {
  let init: Init;
  beforeAll(async () => void (init = await Init.start(place)));
  afterAll(async () => void (await init.close()));

  test("have stdin, stdout, stderr, a job and a result channel, and nothing else", async () => {
    const list = "import os; print(sorted(int(n) for n in os.listdir('/proc/self/fd'))[:-1])";
    const ended = await init.exit(init.python(list));
    expect(ended.stdout).toBe("[0, 1, 2, 3, 4]\n");
    const script = "cat; echo err >&2; cat <&3 >&4; exit 7";
    const all = await init.exit(init.sh(script, { stdin: "to stdin", job: "to job" }));
    expect(all).toMatchObject({ stdout: "to stdin", stderr: "err\n", result: "to job", status: 7 * EXIT_CODE });
  });

  test("come to their end with the status and what they used", async () => {
    const code = "x = bytearray(30_000_000)\nfor i in range(2_000_000): x[0] = i & 1";
    const { exit, status } = await init.exit(init.python(code));
    expect(status).toBe(0);
    expect(exit.maxRssKb).toBeGreaterThan(29_000);
    expect(exit.userUs).toBeGreaterThan(1000);
    expect((await init.exit(init.sh("kill -9 $$"))).status).toBe(9);
  });

  test("are announced before their output, which comes before their end", async () => {
    const id = init.sh("echo out; echo err >&2; echo result >&4");
    await init.exit(id);
    const types = init.frames.filter((frame) => frame.id === id).map(({ type }) => type);
    expect(types[0]).toBe(FrameType.STARTED);
    expect(types.at(-1)).toBe(FrameType.EXIT);
    expect(types).toHaveLength(5);
  });

  test("lead a session, catch all signals and are killed first when memory is short", async () => {
    const id = init.python(`
import os, signal
print(os.getsid(0) == os.getpid() == os.getpgid(0), signal.pthread_sigmask(0, []) == set(),
  signal.getsignal(13), open('/proc/self/oom_score_adj').read())`);
    // Python itself ignores SIGPIPE.
    expect((await init.exit(id)).stdout.split(/\s+/).slice(0, 2)).toEqual(["True", "True"]);
    expect(init.text(FrameType.STDOUT, id)).toContain("1000");
  });

  test("have the directory of their START", async () => {
    expect((await init.exit(init.start({ argv: ["/bin/pwd"], cwd: "/usr" }))).stdout).toBe("/usr\n");
  });

  test("that are not there fail with the reason", async () => {
    const id = init.start({ argv: ["/tmp/none"] });
    const { payload } = await init.frame(FrameType.START_FAILED, id);
    expect(Buffer.from(payload).toString("utf8", 4)).toBe("/tmp/none: No such file or directory");
    expect((await init.exit(init.sh("echo on"))).stdout).toBe("on\n");
  });

  test("started ahead wait for their job", async () => {
    const id = init.newId();
    const command = { argv: ["/bin/sh", "-c", "cat <&3"], env: { PATH: "/usr/bin:/bin" }, cwd: "/" };
    init.send(encodeFrame(FrameType.START, id, encodeStart(command)));
    await init.frame(FrameType.STARTED, id);
    expect((await init.exit(init.sh("echo meanwhile"))).stdout).toBe("meanwhile\n");
    init.send(...encodeInput(FrameType.JOB, id, Buffer.from("late")));
    expect((await init.exit(id)).stdout).toBe("late");
  });

  test("take input longer than a pipe and leave what they don't want", async () => {
    const stdin = "0123456789".repeat(300_000);
    expect((await init.exit(init.sh("wc -c", { stdin }))).stdout.trim()).toBe(String(stdin.length));
    expect((await init.exit(init.sh("head -c 1; exec 0<&-; echo; sleep 0.05", { stdin }))).stdout).toBe("0\n");
  });

  test("are not held up by a background process that has their pipes", async () => {
    const id = init.sh("(sleep 100; echo never) & echo done");
    expect((await init.exit(id)).stdout).toBe("done\n");
    const flood = init.sh("yes > /dev/stdout & echo done; exec sleep 0.05");
    expect((await init.exit(flood)).stdout).toContain("done\n");
  });

  test("may close their output and go on", async () => {
    const { status, stderr } = await init.exit(init.sh("exec >&- 4>&-; sleep 0.05; echo late >&2; exit 3"));
    expect({ status, stderr }).toEqual({ status: 3 * EXIT_CODE, stderr: "late\n" });
  });

  test("run side by side, each with its own output", async () => {
    const ids = Array.from({ length: 100 }, (_, i) => init.sh(`echo ${i}; echo e${i} >&2`));
    const ended = await Promise.all(ids.map((id) => init.exit(id)));
    expect(ended.map(({ stdout, stderr }) => stdout + stderr)).toEqual(ids.map((_, i) => `${i}\ne${i}\n`));
  });

  test("give up to what fits when there are too many", async () => {
    const command = { argv: ["/bin/sleep", "100"], env: {}, cwd: "/" };
    const ids = Array.from({ length: 257 }, () => init.newId());
    init.send(...ids.map((id) => encodeFrame(FrameType.START, id, encodeStart(command))));
    const last = ids.at(-1) ?? 0;
    const frame = await init.frame(FrameType.PROTOCOL_ERROR, last);
    expect(Buffer.from(frame.payload).toString()).toContain("too many");
    await Promise.all(ids.map((id) => init.kill(id)));
  });
});

describe.each([...PLACES])("the output of a %s init", (place) => {
  test("waits for its reader, in bounded memory, and arrives whole", async () => {
    const init = await Init.start(place);
    const id = init.sh(`head -c ${50 * MB} /dev/zero`);
    const { status } = await init.exit(id);
    const frames = init.frames.filter((frame) => frame.type === FrameType.STDOUT && frame.id === id);
    expect(frames.reduce((sum, { payload }) => sum + payload.length, 0)).toBe(50 * MB);
    expect(Math.max(...frames.map(({ payload }) => payload.length))).toBeLessThanOrEqual(65_536);
    expect(status).toBe(0);
    await init.close();
  });
});
