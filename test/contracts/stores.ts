import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { AppError } from "../../src/errors.ts";
import type { ExecutionStore } from "../../src/executions/execution.ts";
import type { KeyStore } from "../../src/keys/key.ts";
import type { UpkeepStore } from "../../src/scheduler/upkeep.ts";
import type { WarmPodStore } from "../../src/provisioners/warm-pod.ts";
import type { AuditStore } from "../../src/sessions/audit.ts";
import type { SessionStore } from "../../src/sessions/session.ts";
import type { TemplateStore } from "../../src/templates/template.ts";
import { auditStoreContract } from "./audit-store.ts";
import { executionStoreContract } from "./execution-store.ts";
import { at, keyRecord, sessionRecord, templateRecord } from "./records.ts";
import { sessionStoreContract } from "./session-store.ts";
import { upkeepStoreContract } from "./upkeep-store.ts";
import { warmPodStoreContract } from "./warm-pod-store.ts";

export type Stores = {
  templates: TemplateStore;
  sessions: SessionStore;
  executions: ExecutionStore;
  audit: AuditStore;
  keys: KeyStore;
  upkeep: UpkeepStore;
  warmPods: WarmPodStore;
  close(): Promise<void>;
};

/** The code of the AppError that `work` fails with; "none" when it does not fail. */
export async function codeOf(work: Promise<unknown>): Promise<string> {
  try {
    await work;
    return "none";
  } catch (error) {
    return error instanceof AppError ? error.code : `not an AppError: ${String(error)}`;
  }
}

/** What every database's stores keep to. `open` gives stores without records. */
export function storesContract(name: string, open: () => Promise<Stores>): void {
  templateStoreContract(name, open);
  sessionStoreContract(name, open);
  executionStoreContract(name, open);
  keyStoreContract(name, open);
  upkeepStoreContract(name, open);
  warmPodStoreContract(name, open);
  auditStoreContract(name, open);
}

function templateStoreContract(name: string, open: () => Promise<Stores>): void {
  describe(`${name}: templates`, () => {
    let stores: Stores;
    beforeEach(async () => {
      stores = await open();
    });
    afterEach(() => stores.close());

    test("a template comes back as it was", async () => {
      const template = templateRecord({
        id: "Ünïcode.id",
        name: "名前 'quoted' \"twice\" \\ %_ 🎉",
        image_url: "registry:5000/a/b@sha256:00",
        default_cpu_cores: 1.25,
        default_timeout: null,
        default_env_vars: { A: "", B: "ü\n\t\u0000", C: "x".repeat(70_000) },
        warm_pool_size: 3,
        preload_modules: ["numpy", "os.path"],
        network: ["*.example.com:443"],
        is_active: false,
      });
      await stores.templates.insert(template);
      expect(await stores.templates.get(template.id)).toEqual(template);
      expect(await stores.templates.get("ünïcode.id")).toBeNull();
    });

    test("an id or a name is taken once; case makes them different", async () => {
      await stores.templates.insert(templateRecord());
      expect(await codeOf(stores.templates.insert(templateRecord({ name: "other" })))).toBe("template_exists");
      expect(await codeOf(stores.templates.insert(templateRecord({ id: "other" })))).toBe("template_exists");
      await stores.templates.insert(templateRecord({ id: "T", name: "t" }));
      await stores.templates.insert(templateRecord({ id: "t ", name: "T " }));
    });

    test("they are listed by name", async () => {
      for (const one of ["b", "a", "c"]) await stores.templates.insert(templateRecord({ id: `id-${one}`, name: one }));
      expect((await stores.templates.list()).map((one) => one.name)).toEqual(["a", "b", "c"]);
    });

    test("an update writes the given fields, and refuses a name that is taken", async () => {
      await stores.templates.insert(templateRecord());
      await stores.templates.insert(templateRecord({ id: "u", name: "U" }));
      expect(await stores.templates.update("t", { default_memory_mb: 1, default_env_vars: { X: "1" } })).toBe(true);
      expect(await stores.templates.get("t")).toEqual(
        templateRecord({ default_memory_mb: 1, default_env_vars: { X: "1" } }),
      );
      expect(await stores.templates.update("t", { default_memory_mb: 1 })).toBe(true);
      expect(await codeOf(stores.templates.update("t", { name: "U" }))).toBe("template_exists");
      expect(await stores.templates.update("nope", { name: "V" })).toBe(false);
    });

    test("one that a live session uses is not deleted, and no session starts from one that is gone", async () => {
      await stores.templates.insert(templateRecord());
      await stores.sessions.insert(sessionRecord({ status: "creating" }));
      expect(await stores.templates.delete("t")).toBe(false);
      expect(await stores.templates.get("t")).not.toBeNull();
      await stores.sessions.update("s", { status: "terminated" });
      expect(await stores.templates.delete("t")).toBe(true);
      expect(await stores.templates.delete("t")).toBe(false);
      expect(await codeOf(stores.sessions.insert(sessionRecord({ id: "s2" })))).toBe("template_unknown");
      expect((await stores.sessions.get("s"))?.template_id).toBe("t");
    });

    test("of a deletion and a new session at once, one is refused", async () => {
      for (let i = 0; i < 20; i++) {
        const id = `race-${i}`;
        await stores.templates.insert(templateRecord({ id, name: id }));
        const work = [
          () => stores.templates.delete(id),
          () => codeOf(stores.sessions.insert(sessionRecord({ id, template_id: id }))),
        ];
        if (i % 2 === 1) work.reverse();
        const results = await Promise.all(work.map((one) => one()));
        const [deleted, inserted] = i % 2 === 1 ? results.toReversed() : results;
        expect([deleted, inserted]).toEqual(deleted === true ? [true, "template_unknown"] : [false, "none"]);
      }
    });
  });
}

function keyStoreContract(name: string, open: () => Promise<Stores>): void {
  describe(`${name}: keys`, () => {
    let stores: Stores;
    beforeEach(async () => {
      stores = await open();
    });
    afterEach(() => stores.close());

    test("a key is found by name and by hash, until it is revoked", async () => {
      expect(await stores.keys.any()).toBe(false);
      await stores.keys.insert(keyRecord());
      expect(await stores.keys.any()).toBe(true);
      expect(await stores.keys.get("k")).toEqual(keyRecord());
      expect(await stores.keys.findByHash("0".repeat(64))).toEqual(keyRecord());
      expect(await stores.keys.revoke("k", at(5))).toBe(true);
      expect(await stores.keys.findByHash("0".repeat(64))).toBeNull();
      expect(await stores.keys.any()).toBe(false);
      expect(await stores.keys.list()).toEqual([keyRecord({ revoked_at: at(5) })]);
      expect(await stores.keys.revoke("k", at(6))).toBe(false);
      expect(await stores.keys.revoke("nope", at(6))).toBe(false);
    });

    test("a name is taken until its key is revoked", async () => {
      await stores.keys.insert(keyRecord());
      expect(await codeOf(stores.keys.insert(keyRecord({ hash: "1".repeat(64) })))).toBe("key_exists");
      await stores.keys.revoke("k", at(5));
      await stores.keys.insert(keyRecord({ hash: "1".repeat(64) }));
      expect(await stores.keys.list()).toEqual([keyRecord({ hash: "1".repeat(64) })]);
    });

    test("a use is noted", async () => {
      await stores.keys.insert(keyRecord());
      await stores.keys.used("k", at(9));
      expect((await stores.keys.get("k"))?.last_used_at).toBe(at(9));
    });

    test("they are listed by name", async () => {
      for (const one of ["b", "a"]) await stores.keys.insert(keyRecord({ name: one, hash: one }));
      expect((await stores.keys.list()).map((key) => key.name)).toEqual(["a", "b"]);
    });
  });
}
