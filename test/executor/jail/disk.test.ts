import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { measureUsage } from "../../../src/executor/jail/usage.ts";
import { MEBIBYTE, TestJail, type TestSandbox } from "./fixture.ts";

const LIMIT = { diskBytes: 16 * MEBIBYTE };
/** First look, scan and the time to start a shell, with room for a busy machine. */
const SOON_MS = 1500;
/** A scan of thousands of files is repeated less often. */
const LATER_MS = 8000;

let jail: TestJail;
let sandbox: TestSandbox;
let count = 0;

beforeAll(async () => {
  jail = await TestJail.open();
});
afterAll(() => jail.close());

async function limitPassedBy(code: string, withinMs = SOON_MS): Promise<string> {
  sandbox = await jail.start(`s${++count}`, LIMIT);
  void sandbox.sh(code);
  return Promise.race([sandbox.limitPassed, Bun.sleep(withinMs).then(() => "nothing")]);
}

describe("the watchdog tells of a workspace over its limit", () => {
  afterEach(() => sandbox.end());

  test("by many files", async () => {
    expect(await limitPassedBy("for i in 1 2 3; do head -c 6M /dev/zero > f$i; done; sleep 5")).toBe("disk");
  });

  test("by files without a name that are still open", async () => {
    const code = 'for i in 3 4 5; do eval "exec $i>f"; head -c 6M /dev/zero >&$i; rm f; done; sleep 5';
    expect(await limitPassedBy(code)).toBe("disk");
  });

  test("by files without a name that are only mapped", async () => {
    const code = `python3 -c "
import mmap, os, time
held = []
for i in range(3):
    f = open('f', 'w+b'); f.truncate(6 << 20); m = mmap.mmap(f.fileno(), 0); m[:] = b'x' * (6 << 20)
    f.close(); held.append(m); os.unlink('f')
time.sleep(5)"`;
    expect(await limitPassedBy(code)).toBe("disk");
  });

  test("below a path longer than any call takes", async () => {
    const code =
      "d=$(printf 'x%.0s' {1..200}); for i in {1..30}; do mkdir $d; cd $d; done; for i in 1 2 3; do head -c 6M /dev/zero > f$i; done; sleep 5";
    expect(await limitPassedBy(code)).toBe("disk");
  });

  test("in directories that their mode closes", async () => {
    const code =
      "mkdir d; exec 3>d/a 4>d/b 5>d/c; chmod 000 d; for i in 3 4 5; do head -c 6M /dev/zero >&$i; done; sleep 5";
    expect(await limitPassedBy(code)).toBe("disk");
  });

  test("by the number of files", async () => {
    const code = "mkdir many; cd many; python3 -c 'for i in range(12000): open(str(i), \"w\")'; sleep 9";
    expect(await limitPassedBy(code, LATER_MS)).toBe("disk");
  }, 15_000);

  test("by directories without end", async () => {
    expect(await limitPassedBy("for i in {1..400}; do mkdir d; cd d; done; sleep 9", LATER_MS)).toBe("disk");
  }, 15_000);
});

describe("the watchdog is silent", () => {
  afterEach(() => sandbox.end());

  test("about a file with several names, one that is replaced again and again, and /tmp", async () => {
    const code =
      "head -c 10M /dev/zero > a; ln a b; ln a c; head -c 10M /dev/zero > /tmp/t; for i in {1..40}; do head -c 1M /dev/zero > x; sleep 0.02; done";
    expect(await limitPassedBy(code)).toBe("nothing");
  });

  test("about a full workspace that no longer grows, so that it can be emptied", async () => {
    expect(await limitPassedBy("for i in 1 2 3; do head -c 6M /dev/zero > f$i; done")).toBe("disk");
    const before = sandbox.passed.length;
    await sandbox.sh("sleep 0.3; rm f1; sleep 0.3");
    expect(sandbox.passed.length - before).toBeLessThanOrEqual(1);
    expect(sandbox.passed.length).toBeLessThan(3);
  });

  test("and leaves the mode of a closed directory as it was", async () => {
    expect(
      await limitPassedBy(
        "mkdir d; touch d/x; chmod 000 d; for i in {1..20}; do sleep 0.05; done; stat -c %a d > mode",
      ),
    ).toBe("nothing");
    expect((await sandbox.sh("cat mode; stat -c %a d")).stdout).toBe("0\n0\n");
  });
});

test("an idle sandbox is looked at soon after it is given something to do", async () => {
  sandbox = await jail.start(`s${++count}`, LIMIT);
  await Bun.sleep(1200);
  const startedMs = performance.now();
  void sandbox.sh("for i in 1 2 3; do head -c 6M /dev/zero > f$i; done; sleep 5");
  await sandbox.limitPassed;
  expect(performance.now() - startedMs).toBeLessThan(1800);
  await sandbox.end();
});

describe("uploads", () => {
  test("share what is left, also before they are in the workspace", async () => {
    sandbox = await jail.start(`s${++count}`, LIMIT);
    await sandbox.sh("head -c 6M /dev/zero > f");
    const [one, other] = await Promise.all([sandbox.init.beginUpload(), sandbox.init.beginUpload()]);
    expect(one.take(6 * MEBIBYTE)).toBe(true);
    expect(other.take(6 * MEBIBYTE)).toBe(false);
    one.end(false);
    other.end(false);
    const third = await sandbox.init.beginUpload();
    expect(third.take(9 * MEBIBYTE)).toBe(true);
    third.end(false);
    await sandbox.end();
  });

  test("have no room where there are too many files", async () => {
    sandbox = await jail.start(`s${++count}`, LIMIT);
    await sandbox.python("for i in range(10000): open(str(i), 'w')");
    const hasRoom = async (): Promise<boolean> => {
      const upload = await sandbox.init.beginUpload();
      upload.end(false);
      return upload.take(1);
    };
    while (await hasRoom()) await Bun.sleep(10);
    await sandbox.end();
  });
});

describe("measuring", () => {
  let dir: string;
  beforeEach(() => {
    dir = mkdtempSync("/tmp/sandbox-usage-");
  });
  afterEach(() => rmSync(dir, { recursive: true, force: true }));
  const most = { bytes: Infinity, files: Infinity };

  test("counts allocated space, not length, and follows no link", async () => {
    writeFileSync(join(dir, "data"), new Uint8Array(100_000));
    symlinkSync("/usr", join(dir, "usr"));
    mkdirSync(join(dir, "below"));
    await Bun.spawn(["truncate", "-s", "1G", join(dir, "below/sparse")]).exited;
    const used = await measureUsage(dir, most);
    expect(used.files).toBe(4);
    expect(used.bytes).toBeGreaterThanOrEqual(100_000);
    expect(used.bytes).toBeLessThan(150_000);
  });

  test("stops early, and leaves no descriptor open", async () => {
    for (let i = 0; i < 500; i++) writeFileSync(join(dir, String(i)), "x");
    expect((await measureUsage(dir, { bytes: Infinity, files: 100 })).files).toBe(101);
    const open = () => [...new Bun.Glob("*").scanSync({ cwd: "/proc/self/fd", onlyFiles: false })].length;
    const before = open();
    await Promise.all(Array.from({ length: 20 }, () => measureUsage(dir, most)));
    expect(open()).toBeLessThanOrEqual(before);
  });

  test("is not led out by a directory that is swapped for a link", async () => {
    const swap = Bun.spawn(
      [
        "bash",
        "-c",
        "cd $0; mkdir -p real; ln -s /usr link; while :; do mv -T real d; rm -rf d2; mv -T d real; mv -T link d; mv -T d link; done",
        dir,
      ],
      { stderr: "ignore" },
    );
    for (let i = 0; i < 300; i++) expect((await measureUsage(dir, most)).files).toBeLessThan(10);
    swap.kill();
    await swap.exited;
  });
});
