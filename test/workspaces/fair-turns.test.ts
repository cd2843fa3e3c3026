import { expect, test } from "bun:test";
import { FairTurns } from "../../src/workspaces/fair-turns.ts";

/** Work that ends when it is told to; `started` has who has begun. */
function working(places: number) {
  const turns = new FairTurns(places);
  const started: string[] = [];
  const ends: (() => void)[] = [];
  const run = (who: string): Promise<void> =>
    turns.run(who, () => {
      started.push(who);
      const end = Promise.withResolvers<void>();
      ends.push(end.resolve);
      return end.promise;
    });
  return { run, started, ends };
}

test("one who asks for everything leaves places for others, and goes on with what they leave", async () => {
  const { run, started, ends } = working(8);
  const all = Array.from({ length: 20 }, () => run("greedy"));
  expect(started).toEqual(Array(4).fill("greedy"));
  all.push(run("other"), run("third"));
  expect(started.slice(4)).toEqual(["other", "third"]);
  for (let i = 0; i < 22; i++) {
    ends[i]?.();
    await Bun.sleep(0);
  }
  await Promise.all(all);
  expect(started).toHaveLength(22);
});

test("whoever waits is served in the order of the calls, also after work that failed", async () => {
  const { run, started, ends } = working(1);
  const all = ["a", "b", "c"].map((who) => run(who));
  const turns = new FairTurns(1);
  const failed = turns.run("x", () => Promise.reject(new Error("no")));
  const next = turns.run("y", () => Promise.resolve("done"));
  expect(await failed.catch((error: unknown) => String(error))).toBe("Error: no");
  expect(await next).toBe("done");
  for (let i = 0; i < 3; i++) {
    ends[i]?.();
    await Bun.sleep(0);
  }
  await Promise.all(all);
  expect(started).toEqual(["a", "b", "c"]);
});
