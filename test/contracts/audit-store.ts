import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import type { EgressDecision } from "../../src/executor/protocol.ts";
import { AUDIT_KEPT } from "../../src/sessions/audit.ts";
import { at, sessionRecord, templateRecord } from "./records.ts";
import type { Stores } from "./stores.ts";

function decision(port: number): EgressDecision {
  const host = "ü.example";
  return { at: at(1), method: "CONNECT", host, port, address: null, allowed: false, reason: "not in the allow list" };
}

export function auditStoreContract(name: string, open: () => Promise<Stores>): void {
  describe(`${name}: what was decided`, () => {
    let stores: Stores;
    beforeEach(async () => {
      stores = await open();
      await stores.templates.insert(templateRecord());
      for (const id of ["s", "t"]) await stores.sessions.insert(sessionRecord({ id }));
    });
    afterEach(() => stores.close());

    test("comes back newest first, each session's own", async () => {
      await stores.audit.add("s", decision(1));
      await stores.audit.add("t", decision(2));
      await stores.audit.add("s", decision(3));
      expect(await stores.audit.list("s")).toEqual([decision(3), decision(1)]);
      expect(await stores.audit.list("t")).toEqual([decision(2)]);
    });

    test("goes with its session, and is not kept for one that is gone", async () => {
      await stores.audit.add("s", decision(1));
      await stores.sessions.delete("s");
      await stores.audit.add("s", decision(2));
      expect(await stores.audit.list("s")).toEqual([]);
    });

    test("is kept up to a number", async () => {
      const most = AUDIT_KEPT + 120;
      for (let port = 1; port <= most; port++) await stores.audit.add("s", decision(port));
      const kept = await stores.audit.list("s");
      expect(kept).toHaveLength(AUDIT_KEPT);
      expect(kept[0]).toEqual(decision(most));
    }, 30_000);
  });
}
