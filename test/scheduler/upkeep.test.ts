import { afterEach, describe, expect, test } from "bun:test";
import { createLog } from "../../src/log.ts";
import { Upkeep, type UpkeepPiece } from "../../src/scheduler/upkeep.ts";
import { openSqlite } from "../../src/stores/sqlite.ts";
import { SqlUpkeepStore } from "../../src/stores/upkeep-store.ts";
import { at } from "../contracts/records.ts";

const log = createLog({ level: "error", format: "json", write: () => {} });

describe("upkeep", () => {
  const sql = openSqlite(":memory:");
  const store = new SqlUpkeepStore(sql);
  let now = 0;
  const clock = { now: () => new Date(at(now)) };
  const replica = (owner: string, pieces: UpkeepPiece[]): Upkeep => new Upkeep({ store, clock, log, owner, pieces });
  const counted = (name: string, runs: string[], owner: string): UpkeepPiece => ({
    name,
    everyMs: 3600_000,
    run: async () => void runs.push(owner),
  });
  afterEach(async () => {
    now = 0;
    await sql.run("DELETE FROM upkeep WHERE name <> ''");
  });

  test("is done by one replica, and again when it is due", async () => {
    const runs: string[] = [];
    const replicas = ["a", "b"].map((owner) => replica(owner, [counted("p", runs, owner)]));
    const checkAll = () => Promise.all(replicas.map((one) => one.check()));
    await checkAll();
    expect(runs).toHaveLength(1);
    now = 3599;
    await checkAll();
    expect(runs).toHaveLength(1);
    now = 3601;
    await checkAll();
    expect(runs).toHaveLength(2);
  });

  test("goes on after a clock that jumped ahead and came back", async () => {
    const runs: string[] = [];
    const one = replica("a", [counted("p", runs, "a")]);
    now = 10_000_000;
    await one.check();
    now = 0;
    await one.check();
    expect(runs).toHaveLength(2);
  });

  test("a piece that fails keeps none of the others, and comes again before its time", async () => {
    const runs: string[] = [];
    const failing: UpkeepPiece = {
      name: "f",
      everyMs: 3600_000,
      run: () => {
        runs.push("failed");
        return Promise.reject(new Error("no"));
      },
    };
    const one = replica("a", [failing, counted("p", runs, "a")]);
    await one.check();
    now = 61;
    await one.check();
    expect(runs).toEqual(["failed", "a", "failed"]);
  });

  test("stops in mid-work, and another replica can go on at once", async () => {
    const begun = Promise.withResolvers<void>();
    const slow: UpkeepPiece = {
      name: "slow",
      everyMs: 3600_000,
      run: (signal) => {
        begun.resolve();
        return new Promise((resolve) => signal.addEventListener("abort", () => resolve()));
      },
    };
    const one = replica("a", [slow]);
    one.start();
    await begun.promise;
    await one.stop();
    const runs: string[] = [];
    await replica("b", [counted("slow", runs, "b")]).check();
    expect(runs).toEqual(["b"]);
  });
});
