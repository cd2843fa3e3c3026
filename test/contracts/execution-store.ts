import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import type { Execution } from "../../src/executions/execution.ts";
import { checkedJson, rawJson } from "../../src/json-text.ts";
import { at, executionRecord, sessionRecord, templateRecord } from "./records.ts";
import { codeOf, type Stores } from "./stores.ts";

const page = { limit: 50, offset: 0 };
const LIVE = ["pending", "running"] as const;

export function executionStoreContract(name: string, open: () => Promise<Stores>): void {
  describe(`${name}: executions`, () => {
    let stores: Stores;
    beforeEach(async () => {
      stores = await open();
      await stores.templates.insert(templateRecord());
      await stores.sessions.insert(sessionRecord());
      await stores.sessions.insert(sessionRecord({ id: "s2", tenant: "else" }));
    });
    afterEach(() => stores.close());

    const lease = { owner: "me", expiresAt: at(15) };
    const insert = (fields: Partial<Execution> = {}) => stores.executions.insert(executionRecord(fields), lease);

    const ended: Partial<Execution> = {
      status: "completed",
      exit_code: 0,
      reason: "exit_code",
      error_message: "m",
      execution_time: 0.0123,
      stdout: "out ü 🎉 \u0000 end",
      stderr: "err",
      stdout_bytes: 12_345_678_901,
      stderr_bytes: 3,
      stdout_truncated: true,
      return_value: rawJson({ a: [1, 2.5, null, "x", false], "": {} }),
      artifacts: [{ path: "a/b.txt", size: 3, mime_type: "text/plain", type: "created" }],
      metrics: { duration_ms: 12.3, cpu_time_ms: 1, peak_memory_mb: 10.5, io_read_bytes: 0, io_write_bytes: 9 },
      started_at: at(1),
      completed_at: at(2),
      last_seq: 7,
      journaled: true,
      timing: { queue: 0.5, run: 11 },
    };

    test("an execution comes back as it was, before and after its end", async () => {
      const execution = executionRecord({
        code: "print('ü')\n\u0000\r\n",
        event: rawJson({ a: [1, null], b: "ü" }),
        stdin: "in\u0000put",
        env_vars: { A: "1" },
        timeout: 1.5,
        idempotency_key: "key",
      });
      await stores.executions.insert(execution, lease);
      expect(await stores.executions.get("e")).toEqual(execution);
      expect(await stores.executions.update("e", ended, LIVE)).toBe(true);
      expect(await stores.executions.get("e")).toEqual({ ...execution, ...ended });
      expect(await stores.executions.get("E")).toBeNull();
    });

    test("one that was born ended comes back as well", async () => {
      await insert(ended);
      expect(await stores.executions.get("e")).toEqual(executionRecord(ended));
    });

    test("every kind of value comes back as itself", async () => {
      const texts = [
        "false",
        "0",
        "-0.5",
        '""',
        '"null"',
        "[]",
        "{ }",
        "1.0",
        "1e400",
        '{"":null}',
        "-1234567890123456789",
      ];
      for (const [i, value] of [null, ...texts.map(checkedJson)].entries()) {
        await insert({ id: `v${i}`, event: value });
        await stores.executions.update(`v${i}`, { status: "completed", return_value: value }, LIVE);
        const found = await stores.executions.get(`v${i}`);
        expect(found?.return_value).toBe(value);
        expect(found?.event).toBe(value);
      }
    });

    test("a megabyte of code and ten megabytes of output are kept whole", async () => {
      const code = "c".repeat(1_048_576);
      const stdout = "ä".repeat(5_000_000);
      const stderr = "e".repeat(10_000_000);
      await insert({ code });
      await stores.executions.update("e", { status: "completed", stdout, stderr }, LIVE);
      const found = await stores.executions.get("e");
      expect(found?.code === code && found.stdout === stdout && found.stderr === stderr).toBe(true);
    });

    test("an update writes the given fields alone, and only from the given statuses", async () => {
      await insert();
      expect(await stores.executions.update("e", { status: "running", stdout: "lost" }, ["running"])).toBe(false);
      expect(await stores.executions.get("e")).toEqual(executionRecord());
      expect(await stores.executions.update("e", { stdout: "first" }, ["pending"])).toBe(true);
      expect(await stores.executions.update("e", { stderr: "second", status: "running" }, ["pending"])).toBe(true);
      expect(await stores.executions.update("e", { stdout: "" }, ["running"])).toBe(true);
      expect(await stores.executions.update("e", { return_value: null, exit_code: 0 }, ["running"])).toBe(true);
      const found = await stores.executions.get("e");
      expect(found).toMatchObject({ status: "running", stderr: "second", return_value: null, exit_code: 0 });
      expect(await stores.executions.update("nope", { stdout: "x" }, LIVE)).toBe(false);
    });

    test("what was overwritten with nothing is nothing", async () => {
      await insert({ stdout: "x", stderr: "y", return_value: rawJson(1) });
      await stores.executions.update("e", { stdout: "", stderr: "", return_value: null }, LIVE);
      expect(await stores.executions.get("e")).toMatchObject({ stdout: "", stderr: "", return_value: null });
    });

    test("of two ends at once, one wins with all of its fields", async () => {
      await insert();
      const ends = (["completed", "cancelled"] as const).map((status) =>
        stores.executions.update("e", { status, stdout: status, stderr: status, error_message: status }, LIVE),
      );
      expect((await Promise.all(ends)).filter(Boolean)).toHaveLength(1);
      const found = await stores.executions.get("e");
      expect(new Set([found?.status, found?.stdout, found?.stderr, found?.error_message]).size).toBe(1);
    });

    test("an idempotency key is used once in a session, also by many at once", async () => {
      const codes = await Promise.all(
        ["e1", "e2", "e3"].map((id) => codeOf(insert({ id, idempotency_key: "K", code: id, stdout: "x" }))),
      );
      expect(codes.toSorted()).toEqual(["idempotency_conflict", "idempotency_conflict", "none"]);
      const first = await stores.executions.findByIdempotencyKey("s", "K");
      expect(first?.code).toBe(first?.id ?? "");
      expect((await stores.executions.ids("s", page)).total).toBe(1);
      await insert({ id: "e4", session_id: "s2", idempotency_key: "K" });
      await insert({ id: "e5", idempotency_key: "k" });
      await insert({ id: "e6" });
      await insert({ id: "e7" });
      expect(await stores.executions.findByIdempotencyKey("s", "other")).toBeNull();
    });

    test("one of a session that is not there is refused and leaves nothing", async () => {
      expect(await codeOf(insert({ session_id: "nope" }))).toBe("session_not_found");
      expect(await stores.executions.get("e")).toBeNull();
    });

    test("a list is the session's own, newest first, in pages, with the total", async () => {
      for (const id of ["a", "c", "b"]) await insert({ id, stdout: id });
      await insert({ id: "x", session_id: "s2" });
      expect(await stores.executions.ids("s", page)).toEqual({ items: ["b", "c", "a"], total: 3 });
      expect(await stores.executions.ids("s", { limit: 1, offset: 1 })).toEqual({ items: ["c"], total: 3 });
      expect(await stores.executions.ids("nope", page)).toEqual({ items: [], total: 0 });
    });

    test("live ones are counted and named", async () => {
      await insert({ id: "a" });
      await insert({ id: "b", status: "running" });
      await insert({ id: "c", status: "completed" });
      await insert({ id: "d", session_id: "s2", tenant: "else" });
      expect(await stores.executions.countLive({ sessionId: "s" })).toBe(2);
      expect(await stores.executions.countLive({ tenant: "else" })).toBe(1);
      expect(await stores.executions.countLive({ tenant: "nobody" })).toBe(0);
      expect(await stores.executions.liveByStatus()).toEqual({ pending: 2, running: 1 });
    });

    test("without any live one there is none in either status", async () => {
      await insert({ status: "completed" });
      expect(await stores.executions.liveByStatus()).toEqual({ pending: 0, running: 0 });
    });

    test("deleting a session's executions leaves the others", async () => {
      await insert({ id: "a", stdout: "x" });
      await insert({ id: "b" });
      await insert({ id: "c", session_id: "s2" });
      await stores.executions.deleteBySession("s");
      await stores.executions.deleteBySession("s");
      expect(await stores.executions.ids("s", page)).toEqual({ items: [], total: 0 });
      expect(await stores.executions.get("a")).toBeNull();
      expect(await stores.executions.get("c")).not.toBeNull();
      await insert({ id: "a" });
      expect((await stores.executions.get("a"))?.stdout).toBe("");
    });

    test("of many ids those are told that are live", async () => {
      await insert({ id: "a" });
      await insert({ id: "b", status: "completed" });
      await insert({ id: "c", status: "running" });
      const many = Array.from({ length: 100 }, (_, i) => `none${i}`);
      expect((await stores.executions.liveAmong(["a", "b", ...many, "c"])).toSorted()).toEqual(["a", "c"]);
      expect(await stores.executions.liveAmong([])).toEqual([]);
    });

    test("any number of them is deleted, large ones too, and what was not named stays", async () => {
      const ids = Array.from({ length: 150 }, (_, i) => `e${i}`);
      for (const id of ids) await insert({ id, stdout_bytes: 1_000_000 });
      await stores.executions.delete(ids.slice(0, 130).map((id, i) => ({ id, bytes: i * 100_000 })));
      await stores.executions.delete([]);
      const { items } = await stores.executions.ids("s", { limit: 200, offset: 0 });
      expect(items).toEqual(ids.slice(130).toReversed());
    });

    test("a walk gives those that ended before an instant, and ends where all are younger", async () => {
      await insert({
        id: "a",
        created_at: at(0),
        completed_at: at(1),
        session_id: "s2",
        stdout_bytes: 5,
        stderr_bytes: 2,
      });
      await insert({ id: "b", created_at: at(1), completed_at: at(20) });
      await insert({ id: "c", created_at: at(1), status: "running" });
      await insert({ id: "ahead", created_at: at(500), completed_at: at(501) });
      await insert({ id: "ahead2", created_at: at(500), completed_at: at(501) });
      await insert({ id: "d", created_at: at(2), completed_at: at(3) });
      for (const id of ["e", "f", "g"]) await insert({ id, created_at: at(11), completed_at: at(12) });
      const seen: string[] = [];
      let pages = 0;
      for (let after: number | null = 0; after !== null; pages++) {
        const page = await stores.executions.endedBefore(at(10), after, at(30), 2);
        seen.push(...page.items.map(({ id }) => id));
        if (pages === 0) expect(page.items).toEqual([{ id: "a", sessionId: "s2", bytes: 7 }]);
        after = page.next;
      }
      expect(seen).toEqual(["a", "d"]);
      expect(pages).toBe(4);
    });

    test("a live one has one owner until its lease ends or is given back", async () => {
      await insert();
      const claim = (owner: string, now: number) =>
        stores.executions.claim("e", { owner, expiresAt: at(now + 15) }, at(now));
      expect(await claim("you", 14)).toBe(false);
      expect(await claim("me", 14)).toBe(true);
      expect(await claim("you", 29)).toBe(true);
      await stores.executions.releaseAll("me");
      expect(await claim("me", 30)).toBe(false);
      await stores.executions.releaseAll("you");
      expect(await claim("me", 30)).toBe(true);
      await stores.executions.update("e", { status: "completed" }, LIVE);
      expect(await claim("you", 100)).toBe(false);
    });

    test("a lease from far in the future is of a clock that was set back, and free", async () => {
      await stores.executions.insert(executionRecord(), { owner: "me", expiresAt: at(3615) });
      expect(await stores.executions.unowned(at(3600), 10)).toEqual([]);
      expect(await stores.executions.unowned(at(0), 10)).toEqual([{ id: "e", isExpired: true }]);
      expect(await stores.executions.claim("e", { owner: "you", expiresAt: at(15) }, at(0))).toBe(true);
      expect(await stores.executions.claim("e", { owner: "me", expiresAt: at(15) }, at(0))).toBe(false);
    });

    test("unowned are live ones whose lease ended, oldest first; a renewal keeps the owner's", async () => {
      await insert({ id: "b" });
      await insert({ id: "a", status: "running" });
      await insert({ id: "c" });
      await insert({ id: "d", status: "completed" });
      const unowned = async (now: string, limit: number): Promise<string[]> =>
        (await stores.executions.unowned(now, limit)).map(({ id, isExpired }) => (isExpired ? id : `${id} given up`));
      expect(await unowned(at(14), 10)).toEqual([]);
      expect(await unowned(at(15), 10)).toEqual(["b", "a", "c"]);
      expect(await unowned(at(15), 2)).toEqual(["b", "a"]);
      await stores.executions.claim("a", { owner: "you", expiresAt: at(20) }, at(15));
      await stores.executions.renew(["a", "b", "c", "d", "nope"], { owner: "me", expiresAt: at(60) });
      expect(await unowned(at(30), 10)).toEqual(["a"]);
      expect(await unowned(at(60), 10)).toEqual(["b", "a", "c"]);
      await stores.executions.releaseAll("you");
      expect(await unowned(at(15), 10)).toEqual(["a given up"]);
      await stores.executions.releaseAll(null);
      expect(await unowned(at(15), 10)).toEqual(["b given up", "a given up", "c given up"]);
    });
  });
}
