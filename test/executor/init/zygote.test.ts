import { afterEach, describe, expect, test } from "bun:test";
import { encodeFrame, encodeStart, FrameType, StartFlag } from "../../../src/executor/init/frames.ts";
import { Init, PLACES, type Place } from "./fixture.ts";

/** A zygote in few lines. `fork` and `answer` say what it does with a request. */
function zygote(serve: string): string {
  return `
import ctypes, os, socket, sys, time
s = socket.socket(fileno=3)
lib = ctypes.CDLL(None)
def fork():
    return lib.syscall(56, 0x8000 | 17, 0, 0, 0, 0)
def run(fds, text):
    for target, fd in enumerate(fds): os.dup2(fd, target)
    os.setsid()
    os.write(1, text.encode() + os.read(3, 100))
    os._exit(5)
def answer(number, pid): s.send(number + pid.to_bytes(4, 'little', signed=True))
while True:
    number, fds, _, _ = socket.recv_fds(s, 4, 5)
    if not number: os._exit(0)
${serve
  .split("\n")
  .map((line) => `    ${line}`)
  .join("\n")}
    for fd in fds: os.close(fd)`;
}

const GOOD = `pid = fork()
if pid == 0: run(fds, 'forked ')
answer(number, pid)`;

describe.each([...PLACES])("the zygote of a %s init", (place: Place) => {
  let init: Init;
  afterEach(async () => void (await init.close()));

  async function begin(serve: string): Promise<void> {
    init = await Init.start(place);
    const argv = ["/usr/bin/python3", "-I", "-S", "-c", zygote(serve)];
    init.send(encodeFrame(FrameType.ZYGOTE, 0, encodeStart({ argv, env: {}, cwd: "/" })));
    await init.until(({ type, payload }) => type === FrameType.ZYGOTE_STATE && payload[0] === 1);
  }

  function ask(job = "job"): number {
    const argv = ["/bin/sh", "-c", "echo cold $(cat <&3)"];
    return init.start({ argv, flags: StartFlag.ZYGOTE }, { job });
  }

  test("makes children that init waits for", async () => {
    await begin(GOOD);
    expect(await init.exit(ask())).toMatchObject({ stdout: "forked job", status: 5 * 256 });
    const ids = Array.from({ length: 50 }, (_, i) => ask(String(i)));
    const ended = await Promise.all(ids.map((id) => init.exit(id)));
    expect(ended.map(({ stdout }) => stdout)).toEqual(ids.map((_, i) => `forked ${i}`));
  });

  test("may answer after its child has ended", async () => {
    await begin(`pid = fork()\nif pid == 0: os._exit(3)\ntime.sleep(0.05)\nanswer(number, pid)`);
    expect((await init.exit(ask())).status).toBe(3 * 256);
  });

  test("is replaced when it does not answer, and nothing runs twice", async () => {
    await begin(`pid = fork()\nif pid == 0: time.sleep(0.6); run(fds, 'forked ')\ntime.sleep(100)`);
    const id = ask();
    expect((await init.exit(id)).stdout).toBe("cold job\n");
    await init.until(({ type, payload }) => type === FrameType.ZYGOTE_STATE && payload[0] === 0);
    expect(init.text(FrameType.STDOUT, id)).toBe("cold job\n");
  });

  test("is replaced when it dies", async () => {
    await begin(`os._exit(1)`);
    expect((await init.exit(ask())).stdout).toBe("cold job\n");
    await init.until(() => init.frames.filter(({ type }) => type === FrameType.ZYGOTE_STATE).length >= 3);
  });

  test("can refuse, lie about pids and send nonsense", async () => {
    for (const serve of [
      "answer(number, -11)",
      "answer(number, 1)",
      "answer(number, os.getpid())",
      "s.send(b'x' * 100)",
    ]) {
      await begin(serve);
      expect((await init.exit(ask())).stdout).toBe("cold job\n");
      await init.close();
    }
    await begin("answer(b'abcd', 1)\nanswer(number, -1)");
    expect((await init.exit(ask())).stdout).toBe("cold job\n");
  });

  test("can not have others' processes killed", async () => {
    await begin(`if 'other' not in globals():
    other = os.fork()
    if other == 0: time.sleep(100)
    answer(number, other)
else:
    is_alive = os.waitpid(other, os.WNOHANG) == (0, 0)
    pid = fork()
    if pid == 0: run(fds, f'alive: {is_alive} ')
    answer(number, pid)`);
    const id = init.start({ argv: ["/bin/sh", "-c", "echo cold; exec sleep 100"], flags: StartFlag.ZYGOTE });
    await init.printed(id, "cold");
    await init.kill(id);
    expect((await init.exit(ask())).stdout).toBe("alive: True job");
  });

  test("has children that can be killed before they are known", async () => {
    await begin(`time.sleep(0.1)\npid = fork()\nif pid == 0: time.sleep(100)\nanswer(number, pid)`);
    const id = ask();
    await init.kill(id);
    expect((await init.exit(id)).status).toBe(9);
  });
});
