import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import type { WarmPodStore } from "../../src/provisioners/warm-pod.ts";
import { at } from "./records.ts";
import type { Stores } from "./stores.ts";

/** What every database's warm pools keep to. */
export function warmPodStoreContract(name: string, open: () => Promise<Stores>): void {
  describe(`${name}: warm Pods`, () => {
    let stores: Stores;
    let pods: WarmPodStore;
    beforeEach(async () => {
      stores = await open();
      pods = stores.warmPods;
    });
    afterEach(() => stores.close());

    const plan = (pod: string, slot: number, pool = "p"): Promise<boolean> =>
      pods.plan({ name: pod, pool, template_id: "t", slot, created_at: at(slot) });
    const started = async (pod: string, slot: number, pool = "p"): Promise<void> => {
      expect(await plan(pod, slot, pool)).toBe(true);
      expect(await pods.ready(pod, at(10 + slot))).toBe(true);
    };

    test("one is planned, becomes ready, is given to a session and forgotten", async () => {
      expect(await plan("a", 0)).toBe(true);
      const planned = { name: "a", pool: "p", template_id: "t", slot: 0, session_id: null, created_at: at(0) };
      expect(await pods.list()).toEqual([{ ...planned, ready_at: null }]);
      expect(await pods.claimable("p", 5)).toEqual([]);
      expect(await pods.claim("a", "s")).toBe(false);
      expect(await pods.ready("a", at(10))).toBe(true);
      expect(await pods.claimable("p", 5)).toEqual(["a"]);
      expect(await pods.ofSession("s")).toBeNull();
      expect(await pods.claim("a", "s")).toBe(true);
      expect(await pods.ofSession("s")).toBe("a");
      expect(await pods.list()).toEqual([{ ...planned, slot: null, session_id: "s", ready_at: at(10) }]);
      expect(await pods.claimable("p", 5)).toEqual([]);
      await pods.forget("a", "another");
      expect(await pods.ofSession("s")).toBe("a");
      await pods.forget("a", "s");
      expect(await pods.list()).toEqual([]);
    });

    test("a place is taken by one, and free again once a session has it", async () => {
      await started("a", 0);
      expect(await plan("b", 0)).toBe(false);
      expect(await plan("b", 0, "another pool")).toBe(true);
      expect(await plan("a", 1)).toBe(false);
      await pods.claim("a", "s");
      expect(await plan("c", 0)).toBe(true);
    });

    test("they are claimed oldest first, and only of the pool that fits", async () => {
      await started("b", 1);
      await started("a", 0);
      await started("c", 2);
      await started("d", 0, "another pool");
      expect(await pods.claimable("p", 2)).toEqual(["a", "b"]);
      expect(await pods.claimable("nope", 2)).toEqual([]);
    });

    test("a session has one at most", async () => {
      await started("a", 0);
      await started("b", 1);
      expect(await pods.claim("a", "s")).toBe(true);
      expect(await pods.claim("b", "s")).toBe(false);
      expect(await pods.claim("a", "s")).toBe(false);
      expect(await pods.claimable("p", 5)).toEqual(["b"]);
    });

    test("one that is withdrawn can't be claimed, and one that was claimed can't be withdrawn", async () => {
      await started("a", 0);
      expect(await pods.withdraw("a")).toBe(true);
      expect(await pods.withdraw("a")).toBe(false);
      expect(await pods.ready("a", at(1))).toBe(false);
      expect(await pods.claim("a", "s")).toBe(false);
      await started("b", 0);
      expect(await pods.claim("b", "s")).toBe(true);
      expect(await pods.withdraw("b")).toBe(false);
      expect(await pods.ready("b", at(1))).toBe(false);
    });

    test("of many who claim, plan or withdraw at once, one wins", async () => {
      for (let round = 0; round < 10; round++) {
        const planned = await Promise.all(Array.from({ length: 6 }, (_, i) => plan(`pod-${round}-${i}`, round)));
        expect(planned.filter(Boolean)).toHaveLength(1);
        const name = `pod-${round}-${planned.indexOf(true)}`;
        await pods.ready(name, at(20));
        const outcomes = await Promise.all([
          ...Array.from({ length: 6 }, (_, i) => pods.claim(name, `s-${round}-${i}`)),
          pods.withdraw(name),
        ]);
        expect(outcomes.filter(Boolean)).toHaveLength(1);
      }
    });
  });
}
