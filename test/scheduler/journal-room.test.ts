import { expect, test } from "bun:test";
import type { Executor } from "../../src/executor/protocol.ts";
import { createLog } from "../../src/log.ts";
import { JournalRoom } from "../../src/scheduler/journal-room.ts";
import { executionRecord } from "../contracts/records.ts";

const log = createLog({ level: "error", format: "json", write: () => {} });

type Surplus = () => Promise<unknown>;

/** Rooms whose sessions each have the executor that says this; `asked` are the executors, `deleted` what went. */
function roomOf(executors: Record<string, Surplus>, live: string[]) {
  const deleted: string[] = [];
  const asked: string[] = [];
  const looked: number[] = [];
  const made = new Map(
    Object.entries(executors).map(([session, surplus]) => [
      session,
      {
        surplusJournals: () => {
          asked.push(session);
          return surplus();
        },
        deleteExecution: (id: string, sandboxId: string) => Promise.resolve(void deleted.push(`${sandboxId}/${id}`)),
      } as unknown as Executor,
    ]),
  );
  const room = new JournalRoom({
    executions: {
      liveAmong: (ids) => {
        looked.push(ids.length);
        return Promise.resolve(ids.filter((id) => live.includes(id)));
      },
    },
    provisioner: { executorOf: async (id) => made.get(id) ?? Promise.reject(new Error("gone")) },
    log,
  });
  const ended = (session: string): void => room.ended(executionRecord({ session_id: session }));
  return { room, ended, deleted, asked, looked };
}

test("only those go that are recorded as ended, and only executors are asked whose executions ended", async () => {
  const names = ["a", "b", "c"].map((id) => ({ id, sandboxId: "s" }));
  const { room, ended, deleted, asked } = roomOf({ s: async () => names, other: async () => names }, ["b"]);
  await room.pass();
  expect(asked).toEqual([]);
  ended("s");
  ended("s");
  ended("gone");
  await room.pass();
  expect([asked, deleted]).toEqual([["s"], ["s/a", "s/c"]]);
  await room.pass();
  expect(asked).toEqual(["s"]);
});

test("an executor that fails or says what ours does not keeps the others from nothing", async () => {
  const many = Array.from({ length: 100_000 }, (_, i) => ({ id: `x${i}`, sandboxId: "s" }));
  const { room, ended, deleted, looked } = roomOf(
    {
      fails: () => Promise.reject(new Error("no")),
      odd: async () => [null, 7, {}, { id: "../x", sandboxId: "s" }, { id: ["a"], sandboxId: "s" }, { id: "a" }],
      text: async () => "a",
      many: async () => many,
      good: async () => [{ id: "good", sandboxId: "good" }],
    },
    [],
  );
  for (const session of ["fails", "odd", "text", "many", "good"]) ended(session);
  await room.pass();
  expect(deleted).toContain("good/good");
  expect(deleted.length).toBe(1001);
  expect(looked.toSorted((a, b) => a - b)).toEqual([1, 1000]);
});
