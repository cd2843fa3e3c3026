import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { encodeFrame, FrameType } from "../../../src/executor/init/frames.ts";
import { Init, PLACES } from "./fixture.ts";

const SIGKILL = 9;
let marks = 0;

/** A word that is in the command line of all processes of one test. */
function newMark(): string {
  return `mark-${process.pid}-${++marks}`;
}

/** How many processes of this machine, zombies aside, have `mark` in their command line. */
function countMarked(mark: string): number {
  const commandLine = (pid: string): string => {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, "latin1");
    } catch {
      return "";
    }
  };
  return readdirSync("/proc").filter((name) => /^\d+$/.test(name) && commandLine(name).includes(mark)).length;
}

describe.each([...PLACES])("a %s init that is to end an execution", (place) => {
  let init: Init;
  beforeAll(async () => void (init = await Init.start(place)));
  afterAll(async () => void (await init.close()));

  async function killed(code: string): Promise<void> {
    const mark = newMark();
    const other = init.sh("echo up; cat <&3 & sleep 100");
    await init.printed(other, "up");
    const id = init.python(`# ${mark}\nimport os, signal, sys, time, threading\n${code}`);
    await init.printed(id, "up");
    expect(countMarked(mark)).toBeGreaterThan(0);
    await init.kill(id);
    expect(countMarked(mark)).toBe(0);
    expect((await init.exit(id)).status & 0x7f).toBe(SIGKILL);
    expect(init.text(FrameType.EXIT, other)).toBe("");
    await init.kill(other);
  }

  test("ends a single process", () => killed("print('up', flush=True); time.sleep(100)"));

  test("ends one that ignores all it can", () =>
    killed("[signal.signal(n, signal.SIG_IGN) for n in (1, 2, 15, 18)]; print('up', flush=True); time.sleep(100)"));

  test("ends daemons in sessions of their own", () =>
    killed(`
for _ in range(3):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.setsid()
            time.sleep(100)
        os._exit(0)
    os.wait()
print('up', flush=True)
time.sleep(100)`));

  test("ends processes whose first thread is over", () =>
    killed(`
import ctypes
if os.fork() == 0:
    def live():
        os.setsid()
        if os.fork() == 0:
            os.setsid()
        time.sleep(100)
    threading.Thread(target=live).start()
    ctypes.CDLL(None).syscall(60, 0)
time.sleep(0.2)
print('up', flush=True)
time.sleep(100)`));

  test("ends a fork bomb", () =>
    killed(`
give, take = os.pipe()[::-1]
os.write(give, b'.' * 60)
def spread():
    end = time.monotonic() + 0.03
    while time.monotonic() < end:
        os.read(take, 1)
        if os.fork() == 0: return spread()
    os.write(give, b'.')
    os._exit(0)
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for _ in range(5):
    if os.fork() == 0: spread()
print('up', flush=True)
time.sleep(100)`));

  test("ends a chain in which each child outruns its parent", () =>
    killed(`
print('up', flush=True)
if os.fork() == 0:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        if os.fork(): os._exit(0)
        os.setsid()
time.sleep(100)`));

  test("ends one that is stopped", () => killed("print('up', flush=True); os.kill(os.getpid(), signal.SIGSTOP)"));

  test("answers at once for what is not there, or over", async () => {
    await init.kill(init.newId());
    const id = init.sh("exit 0");
    await init.exit(id);
    await init.kill(id);
  });

  test("leaves the daemons of an execution that ended by itself", async () => {
    const mark = newMark();
    const id = init.sh(`sh -c 'sleep 100; : ${mark}' > /dev/null 2>&1 4>&1 & echo done`);
    expect((await init.exit(id)).status).toBe(0);
    await init.kill(id);
    expect(countMarked(mark)).toBeGreaterThan(0);
  });

  test("answers others meanwhile", async () => {
    const id = init.sh("while :; do sleep 0.001 & done");
    await Bun.sleep(50);
    init.send(encodeFrame(FrameType.KILL, id));
    await init.ping();
    expect((await init.exit(init.sh("echo on"))).stdout).toBe("on\n");
    await init.frame(FrameType.KILLED, id);
  });
});

describe.each([...PLACES])("a %s init whose executor is gone", (place) => {
  test("ends all processes, and itself", async () => {
    const init = await Init.start(place);
    const mark = newMark();
    const ids = ["sleep 100; :", "setsid sleep 100; :", "(setsid sh -c 'sleep 100; :' $0 &) ; sleep 100; :"].map(
      (run) => init.start({ argv: ["/bin/sh", "-c", `echo up; ${run}`, mark] }),
    );
    await Promise.all(ids.map((id) => init.printed(id, "up")));
    await init.close();
    expect(countMarked(mark)).toBe(0);
    expect(await init.said).not.toContain(mark);
  });
});
