import { expect, test } from "bun:test";
import { Changes } from "../../src/changes.ts";
import { AppError } from "../../src/errors.ts";
import type { Execution } from "../../src/executions/execution.ts";
import { followExecution } from "../../src/executions/follow.ts";
import type { Executor } from "../../src/executor/protocol.ts";
import { executionRecord } from "../contracts/records.ts";

test("what was read of a journal is not lost when the record of its end can't be read at first", async () => {
  const lines = ['2 status {"status":"running"}', '3 stdout {"text":"x","offset":0}', "4 end {}"];
  const executor = {
    journal: async (_id: string, after: number) => new Blob([`${lines.slice(after - 1).join("\n")}\n`]).stream(),
  } as unknown as Executor;
  const ended = executionRecord({ status: "completed", journaled: true, last_seq: 4 });
  let failures = 1;
  const get = async (): Promise<Execution> => {
    if (failures-- > 0) throw new AppError("store_unavailable", "not now", { retryAfterS: 1 });
    return ended;
  };
  const deps = { store: { get }, provisioner: { executorOf: async () => executor }, changes: new Changes<Execution>() };
  const running = executionRecord({ status: "running", journaled: true, last_seq: null });
  const seqs: number[] = [];
  const signal = AbortSignal.timeout(5000);
  for await (const batch of followExecution(
    deps as unknown as Parameters<typeof followExecution>[0],
    running,
    0,
    signal,
  ))
    seqs.push(...batch.map(({ seq }) => seq));
  expect(seqs).toEqual([1, 2, 3, 4]);
});
