import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { encodeFrame, encodeStart, FrameType } from "../../../src/executor/init/frames.ts";
import { Init, PLACES } from "./fixture.ts";
import golden from "./golden.json" with { type: "json" };

const SEED = 20_240_607;
const ROUNDS = 60;
const FRAMES_A_ROUND = 40;

/** Numbers of 32 bits, the same for the same seed (xorshift). */
function random(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}

function number32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value >>> 0);
  return bytes;
}

describe.each([...PLACES])("a %s init that is sent nonsense", (place) => {
  let init: Init;
  beforeAll(async () => void (init = await Init.start(place)));
  afterAll(async () => void (await init.close()));

  const openFiles = async (): Promise<number> => {
    const list = await Bun.$`ls /proc/${init.pid}/fd`.quiet().text();
    return list.split("\n").length;
  };

  test("goes on, and keeps neither descriptors nor processes", async () => {
    const next = random(SEED);
    const start = encodeStart({ argv: ["/bin/true"], env: { A: "1" }, cwd: "/" });
    const types = [...Object.values(FrameType), 0, 0x7f, 0xff].filter((type) => type !== FrameType.ZYGOTE);
    const noise = (length: number): Buffer => Buffer.from(Array.from({ length }, () => next(256)));
    const payload = (): Uint8Array => {
      const choice = next(5);
      if (choice === 0) return noise(next(64));
      if (choice === 1) return start.subarray(0, next(start.length));
      const changed = Buffer.from(start);
      // Not a byte of the program's name: that would be another program of this machine.
      if (choice === 2) changed[next(5)] = next(256);
      if (choice === 3) changed.set(number32(next(2 ** 32)), start.length - 8);
      return changed;
    };
    await init.ping();
    for (let round = 0; round < ROUNDS; round++) {
      const frames = Array.from({ length: FRAMES_A_ROUND }, () =>
        encodeFrame(types[next(types.length)] ?? 0, next(8) + 1000, payload(), next(256)),
      );
      const bytes = Buffer.concat(frames);
      for (let at = 0; at < bytes.length;) {
        const end = next(3) === 0 ? at + 1 + next(bytes.length - at) : bytes.length;
        init.send(bytes.subarray(at, end));
        at = end;
      }
      await init.ping();
    }
    await Promise.all(Array.from({ length: 8 }, (_, i) => init.kill(1000 + i)));
    expect((await init.exit(init.sh("echo on"))).stdout).toBe("on\n");
    // Init's descriptors are closed to all others, but root of the machine.
    if (process.getuid?.() !== 0) return;
    const deadline = performance.now() + 5000;
    while ((await openFiles()) >= 10 && performance.now() < deadline) await Bun.sleep(20);
    expect(await openFiles()).toBeLessThan(10);
  }, 10_000);

  test("skips frames that are too long, and says whose they were", async () => {
    const size = 3_000_000;
    init.send(encodeFrame(FrameType.START, 77, Buffer.alloc(size)));
    const refused = await init.frame(FrameType.PROTOCOL_ERROR, 77);
    expect(Buffer.from(refused.payload).toString()).toBe("too long a frame");
    await init.ping();
  });

  test("says whose a malformed START or ZYGOTE was", async () => {
    const item = (tag: number, length: number, bytes: string): Buffer =>
      Buffer.concat([Buffer.from([tag]), number32(length), Buffer.from(bytes)]);
    const malformed = [
      Buffer.alloc(0),
      item(1, 9, "/bin/true").subarray(0, 4),
      item(1, 10, "/bin/true"),
      item(1, 0xffff_fff0, "/bin/true"),
      item(1, 9, "/bin\0true"),
      item(3, 1, "/"),
      Buffer.concat([item(1, 9, "/bin/true"), item(5, 3, "abc")]),
    ];
    const sent = malformed.flatMap((payload, i) => [
      encodeFrame(FrameType.START, 2000 + i, payload),
      encodeFrame(FrameType.ZYGOTE, 3000 + i, payload),
    ]);
    init.send(...sent);
    await Promise.all(
      [2000, 3000].flatMap((base) => malformed.map((_, i) => init.frame(FrameType.PROTOCOL_ERROR, base + i))),
    );
    await init.ping();
  });

  test("refuses a number that is in use, and leaves its process", async () => {
    const id = init.sh("cat <&3 & sleep 0.05; echo first");
    init.send(encodeFrame(FrameType.START, id, encodeStart({ argv: ["/bin/echo", "second"], env: {}, cwd: "/" })));
    await init.frame(FrameType.PROTOCOL_ERROR, id);
    expect((await init.exit(id)).stdout).toBe("first\n");
  });

  test("ends in the middle of a frame when its executor does", async () => {
    const other = await Init.start(place);
    other.send(encodeFrame(FrameType.START, 1, Buffer.alloc(100)).subarray(0, 50));
    expect(await other.close()).toBe(0);
  });
});

test("an init that has lost the framing sends whole frames, and ends with its executor", async () => {
  const next = random(SEED);
  const agreed = Buffer.from(Object.values(golden.toInit).join(""), "hex");
  const zygote = encodeFrame(FrameType.ZYGOTE, 0, encodeStart({ argv: ["/bin/sleep", "9"], env: {}, cwd: "/" }));
  const torn = (): Uint8Array => {
    let bytes = Buffer.concat([agreed, zygote, agreed]);
    for (let changes = 1 + next(8); changes > 0; changes--) {
      const at = next(bytes.length);
      const noise = Buffer.from(Array.from({ length: next(40) }, () => next(256)));
      // Overwritten, moved on, or cut short.
      const from = [at + noise.length, at, at + next(20)][next(3)] ?? at;
      bytes = Buffer.concat([bytes.subarray(0, at), noise, bytes.subarray(from)]);
    }
    return bytes;
  };
  // In a jail alone: what runs then may be any program.
  for (let round = 0; round < 100; round++) {
    const init = await Init.start("jailed");
    init.send(torn());
    expect({ round, code: await init.close(), said: await init.said }).toEqual({ round, code: 0, said: "" });
  }
}, 20_000);
