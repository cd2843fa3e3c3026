import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { at } from "./records.ts";
import type { Stores } from "./stores.ts";

export function upkeepStoreContract(name: string, open: () => Promise<Stores>): void {
  describe(`${name}: upkeep`, () => {
    let stores: Stores;
    beforeEach(async () => {
      stores = await open();
    });
    afterEach(() => stores.close());

    const take = (owner: string, now: number, name = "piece"): Promise<boolean> =>
      stores.upkeep.take({ name, owner, until: at(now + 60) }, at(now), at(now + 3600));

    test("of many who want a piece at once one gets it, each piece by itself", async () => {
      const taken = await Promise.all(["a", "b", "c", "d"].map((owner) => take(owner, 0)));
      expect(taken.filter(Boolean)).toHaveLength(1);
      expect(await take("a", 0, "other")).toBe(true);
    });

    test("nobody gets it again before it is due, not even its owner", async () => {
      await take("me", 0);
      expect(await stores.upkeep.hold({ name: "piece", owner: "me", until: at(100) })).toBe(true);
      expect(await take("you", 99)).toBe(false);
      expect(await take("me", 99)).toBe(false);
      const taken = await Promise.all(["you", "they"].map((owner) => take(owner, 100)));
      expect(taken.filter(Boolean)).toHaveLength(1);
    });

    test("who lost a piece can't hold it any more", async () => {
      await take("me", 0);
      expect(await take("you", 60)).toBe(true);
      expect(await stores.upkeep.hold({ name: "piece", owner: "me", until: at(1000) })).toBe(false);
      expect(await take("they", 119)).toBe(false);
    });

    test("a turn that a clock far ahead has noted counts for nothing", async () => {
      await take("me", 50_000);
      expect(await take("you", 0)).toBe(true);
    });
  });
}
