import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import type { Session } from "../../src/sessions/session.ts";
import { at, executionRecord, sessionRecord, templateRecord } from "./records.ts";
import { codeOf, type Stores } from "./stores.ts";

const page = { limit: 50, offset: 0 };

export function sessionStoreContract(name: string, open: () => Promise<Stores>): void {
  describe(`${name}: sessions`, () => {
    let stores: Stores;
    beforeEach(async () => {
      stores = await open();
      await stores.templates.insert(templateRecord());
      await stores.templates.insert(templateRecord({ id: "u", name: "U" }));
    });
    afterEach(() => stores.close());

    const insert = (fields: Partial<Session>) => stores.sessions.insert(sessionRecord(fields));
    const idsOf = async (tenant: string, filter = {}, wanted = page) => {
      const { items, total } = await stores.sessions.list(tenant, filter, wanted);
      return { ids: items.map((one) => one.id), total };
    };

    test("a session that was deleted is changed and deleted no more, whoever has its id now", async () => {
      await insert({ created_at: at(0), error_message: null });
      await stores.sessions.delete("s");
      await insert({ created_at: at(9), error_message: null });
      expect(await stores.sessions.update("s", { error_message: "x" }, ["running"], at(0))).toBe(false);
      expect(await stores.sessions.delete("s", at(0))).toBe(false);
      expect((await stores.sessions.get("s"))?.error_message).toBeNull();
      expect(await stores.sessions.update("s", { error_message: "x" }, ["running"], at(9))).toBe(true);
      expect(await stores.sessions.delete("s", at(9))).toBe(true);
    });

    test("a session comes back as it was", async () => {
      const session = sessionRecord({
        runtime_node: "node-1",
        container_id: "c",
        pod_name: "p",
        env_vars: { A: "ü 🎉", __proto__x: "1" },
        python_package_index_url: "https://index.example/simple",
        requested_dependencies: [{ name: "pandas", version: ">=2" }, { name: "numpy" }],
        installed_dependencies: [
          { name: "pandas", version: "2.2", install_location: "/d", install_time: at(1), is_from_template: false },
        ],
        dependency_install_status: "failed",
        dependency_install_error: "no\nwheel",
        dependency_install_started_at: at(1),
        dependency_install_completed_at: at(2),
        fail_on_dependency_error: false,
        error_message: "e",
        completed_at: at(3),
      });
      await stores.sessions.insert(session);
      expect(await stores.sessions.get("s")).toEqual(session);
      expect(await stores.sessions.get("S")).toBeNull();
    });

    test("an id is taken once, also when many want it at once", async () => {
      const codes = await Promise.all([1, 2, 3, 4].map(() => codeOf(insert({}))));
      expect(codes.toSorted()).toEqual(["none", "session_exists", "session_exists", "session_exists"]);
    });

    test("a walk gives those that ended before an instant", async () => {
      await insert({ id: "a", status: "terminated", completed_at: at(5) });
      await insert({ id: "b" });
      await insert({ id: "c", status: "failed", completed_at: at(15) });
      expect(await stores.sessions.endedBefore(at(10), 0, at(20), 10)).toEqual({ items: ["a"], next: null });
      const { items, next } = await stores.sessions.endedBefore(at(20), 0, at(20), 2);
      expect(items).toEqual(["a"]);
      expect(await stores.sessions.endedBefore(at(20), next ?? 0, at(20), 2)).toEqual({ items: ["c"], next: null });
    });

    test("those that may connect are for who holds their lease, or for anybody when nobody does", async () => {
      const lease = (owner: string, seconds: number) => ({ owner, expiresAt: at(seconds) });
      const network = ["example.com"];
      await insert({ id: "free", status: "running", network });
      await insert({ id: "mute", status: "running", network: [] });
      await insert({ id: "new", status: "creating", network });
      await insert({ id: "over", status: "terminated", network });
      for (const [id, owner] of [
        ["mine", "a"],
        ["other", "b"],
      ] as const) {
        await insert({ id, status: "running", network });
        expect(await stores.sessions.claim(id, lease(owner, 10), at(0))).toBe(true);
      }
      expect(await stores.sessions.idsToConnect("a", at(5), "", 10)).toEqual(["free", "mine"]);
      expect(await stores.sessions.idsToConnect("a", at(5), "free", 1)).toEqual(["mine"]);
      await stores.sessions.renew(["mine", "other", "none"], lease("a", 20));
      expect(await stores.sessions.idsToConnect("c", at(15), "", 10)).toEqual(["free", "other"]);
      expect(await stores.sessions.idsToConnect("c", at(25), "", 10)).toEqual(["free", "mine", "other"]);
    });

    test("a list is the tenant's own, newest first, filtered and in pages, with the total", async () => {
      await insert({ id: "a" });
      await insert({ id: "other", tenant: "else" });
      await insert({ id: "b", status: "failed" });
      await insert({ id: "c", template_id: "u" });
      await insert({ id: "d", template_id: "u", status: "failed" });
      expect(await idsOf("default")).toEqual({ ids: ["d", "c", "b", "a"], total: 4 });
      expect(await idsOf("else")).toEqual({ ids: ["other"], total: 1 });
      expect(await idsOf("nobody")).toEqual({ ids: [], total: 0 });
      expect(await idsOf("default", { status: "failed" })).toEqual({ ids: ["d", "b"], total: 2 });
      expect(await idsOf("default", { template_id: "u" })).toEqual({ ids: ["d", "c"], total: 2 });
      expect(await idsOf("default", { status: "running", template_id: "u" })).toEqual({ ids: ["c"], total: 1 });
      expect(await idsOf("default", { template_id: "' OR 1=1 --" })).toEqual({ ids: [], total: 0 });
      expect(await idsOf("default", {}, { limit: 2, offset: 1 })).toEqual({ ids: ["c", "b"], total: 4 });
      expect(await idsOf("default", {}, { limit: 2, offset: 9 })).toEqual({ ids: [], total: 4 });
    });

    test("an update writes the given fields alone, and only from the given statuses", async () => {
      await insert({});
      expect(await stores.sessions.update("s", { error_message: "x", env_vars: { A: "1" } }, ["creating"])).toBe(false);
      expect(await stores.sessions.get("s")).toEqual(sessionRecord());
      expect(
        await stores.sessions.update("s", { error_message: "x", env_vars: { A: "1" } }, ["creating", "running"]),
      ).toBe(true);
      expect(await stores.sessions.get("s")).toEqual(sessionRecord({ error_message: "x", env_vars: { A: "1" } }));
      expect(await stores.sessions.update("s", { error_message: null })).toBe(true);
      expect(await stores.sessions.update("s", { error_message: null })).toBe(true);
      expect(await stores.sessions.update("s", {})).toBe(true);
      expect(await stores.sessions.get("s")).toEqual(sessionRecord({ env_vars: { A: "1" } }));
      expect(await stores.sessions.update("nope", { error_message: "x" })).toBe(false);
    });

    test("of two installations that begin at once, one does; none of a session that has ended", async () => {
      await insert({ id: "a", status: "running", dependency_install_status: "completed" });
      const known = (await stores.sessions.get("a"))!;
      const begin = (second: number) =>
        stores.sessions.beginInstallation(known, {
          dependency_install_status: "installing",
          dependency_install_started_at: at(second),
        });
      expect((await Promise.all([begin(1), begin(2)])).filter((didBegin) => didBegin)).toHaveLength(1);
      expect((await stores.sessions.get("a"))?.dependency_install_status).toBe("installing");
      await stores.sessions.update("a", { dependency_install_status: "completed" });
      expect(await begin(3)).toBe(false);
      const later = (await stores.sessions.get("a"))!;
      await stores.sessions.update("a", { status: "terminated" });
      expect(await stores.sessions.beginInstallation(later, { dependency_install_status: "installing" })).toBe(false);
    });

    test("of two ends at once, one wins", async () => {
      await insert({});
      const ends = (["failed", "terminated"] as const).map((status) =>
        stores.sessions.update("s", { status }, ["running"]),
      );
      expect((await Promise.all(ends)).filter(Boolean)).toHaveLength(1);
    });

    test("a deleted session is gone, with its executions", async () => {
      await insert({});
      await stores.executions.insert(executionRecord(), { owner: "me", expiresAt: at(15) });
      expect(await stores.sessions.delete("s")).toBe(true);
      expect(await stores.sessions.delete("s")).toBe(false);
      expect(await stores.sessions.get("s")).toBeNull();
      expect(await stores.executions.get("e")).toBeNull();
      await insert({});
      expect((await stores.executions.ids("s", page)).total).toBe(0);
    });

    test("live sessions are counted, in all, by tenant and by template", async () => {
      await insert({ id: "a", status: "creating" });
      await insert({ id: "b", template_id: "u" });
      await insert({ id: "c", tenant: "else" });
      await insert({ id: "d", status: "failed" });
      await insert({ id: "e", status: "terminated", template_id: "u" });
      expect(await stores.sessions.countLive()).toBe(3);
      expect(await stores.sessions.countLive("default")).toBe(2);
      expect(await stores.sessions.countLive("nobody")).toBe(0);
      expect(await stores.sessions.countLiveByTemplate("u")).toBe(1);
      expect(await stores.sessions.countLiveByTemplate("t")).toBe(2);
    });

    test("a lease has one owner until it ends or is given back", async () => {
      await stores.sessions.insert(sessionRecord(), { owner: "a", expiresAt: at(15) });
      const claim = (owner: string, now: number) =>
        stores.sessions.claim("s", { owner, expiresAt: at(now + 15) }, at(now));
      expect(await claim("b", 5)).toBe(false);
      expect(await claim("a", 5)).toBe(true);
      expect(await claim("b", 19)).toBe(false);
      expect(await claim("b", 20)).toBe(true);
      await stores.sessions.release("s", "a");
      expect(await claim("a", 21)).toBe(false);
      await stores.sessions.release("s", "b");
      expect(await claim("a", 21)).toBe(true);
      await stores.sessions.releaseAll("b");
      expect(await claim("b", 21)).toBe(false);
      await stores.sessions.releaseAll("a");
      expect(await claim("b", 21)).toBe(true);
      expect(await stores.sessions.claim("nope", { owner: "a", expiresAt: at(9) }, at(0))).toBe(false);
    });

    test("a lease and a last use from far in the future are of a clock that was set back", async () => {
      const far = { owner: "a", expiresAt: at(3615) };
      await stores.sessions.insert(sessionRecord({ id: "c", status: "creating", expires_at: at(9000) }), far);
      await insert({ id: "r", last_activity_at: at(3600), expires_at: at(3900) });
      await insert({ id: "soon", last_activity_at: at(30), expires_at: at(9000) });
      expect(await stores.sessions.due(at(3600), 10)).toEqual([]);
      expect(await stores.sessions.due(at(0), 10)).toEqual(["c", "r"]);
      expect(await stores.sessions.claim("c", { owner: "b", expiresAt: at(15) }, at(0))).toBe(true);
      expect(await stores.sessions.claim("c", { owner: "a", expiresAt: at(15) }, at(0))).toBe(false);
    });

    test("of many that claim a free lease at once, one gets it", async () => {
      await insert({});
      const owners = ["a", "b", "c", "d"];
      const got = await Promise.all(
        owners.map((owner) => stores.sessions.claim("s", { owner, expiresAt: at(15) }, at(0))),
      );
      expect(got.filter(Boolean)).toHaveLength(1);
    });

    test("due are those being created that nobody has, and live ones past their time", async () => {
      const expires_at = at(100);
      await stores.sessions.insert(sessionRecord({ id: "leased", status: "creating", expires_at }), {
        owner: "a",
        expiresAt: at(15),
      });
      await insert({ id: "free", status: "creating", expires_at });
      await insert({ id: "running", expires_at });
      await insert({ id: "late", expires_at: at(50) });
      await insert({ id: "ended", status: "terminated", expires_at: at(1) });
      await insert({ id: "failed", status: "failed", expires_at: at(1) });
      expect(await stores.sessions.due(at(10), 10)).toEqual(["free"]);
      expect(await stores.sessions.due(at(15), 10)).toEqual(["leased", "free"]);
      expect(await stores.sessions.due(at(50), 10)).toEqual(["leased", "free", "late"]);
      expect(await stores.sessions.due(at(100), 10)).toEqual(["leased", "free", "running", "late"]);
      expect(await stores.sessions.due(at(100), 2)).toEqual(["leased", "free"]);
    });

    test("ids by status come in pages that together are all", async () => {
      for (const id of ["d", "B", "a", "c", "_"]) await insert({ id, status: id === "c" ? "failed" : "running" });
      const all: string[] = [];
      for (let after = ""; ; after = all.at(-1) ?? "") {
        const ids = await stores.sessions.idsByStatus(["creating", "running"], after, 2);
        all.push(...ids);
        if (ids.length < 2) break;
      }
      expect(all).toEqual(["B", "_", "a", "d"]);
    });

    test("with 10,000 ended sessions a list and the scheduler's questions take under 20 ms", async () => {
      for (let i = 0; i < 10_000; i++) await insert({ id: `x${i}`, status: i % 2 === 0 ? "failed" : "terminated" });
      const questions: (() => Promise<unknown>)[] = [
        () => stores.sessions.list("default", {}, page),
        () => stores.sessions.list("default", {}, { limit: 200, offset: 9000 }),
        () => stores.sessions.list("default", { status: "failed", template_id: "t" }, page),
        () => stores.sessions.list("nobody", {}, page),
        () => stores.sessions.due(at(1000), 200),
        () => stores.sessions.idsByStatus(["creating", "running"], "", 200),
        () => stores.sessions.countLive("default"),
        () => stores.sessions.countLiveByTemplate("t"),
      ];
      for (const question of questions) {
        // The best of many: what else the machine does is not the question.
        let bestMs = Number.POSITIVE_INFINITY;
        for (let i = 0; i < 50 && bestMs >= 20; i++) {
          const start = performance.now();
          await question();
          bestMs = Math.min(bestMs, performance.now() - start);
        }
        expect(bestMs, question.toString()).toBeLessThan(20);
      }
    }, 60_000);
  });
}
