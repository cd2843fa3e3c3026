import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { appendFileSync, mkdtempSync, readFileSync, rmSync, statSync, truncateSync, utimesSync } from "node:fs";
import { join } from "node:path";
import type { JournaledOutcome, OutputLimits } from "../../src/executor/journal.ts";
import { Journals } from "../../src/executor/journals.ts";
import { collectOutput, followJournal } from "../../src/executor/journal-reader.ts";
import type { Outcome, OutputPayload } from "../../src/executor/protocol.ts";
import { recoverJournals } from "../../src/executor/recovery.ts";

let root: string;
beforeAll(() => {
  root = mkdtempSync("/tmp/journal-test-");
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

let count = 0;
function newJournal(limits: Partial<OutputLimits> = {}) {
  const journals = new Journals(join(root, `j${++count}`), {
    outputLimitBytes: 10_000_000,
    journalLimitBytes: 256 * 1024 ** 2,
    journalsLimitBytes: 1024 ** 3,
    ...limits,
  });
  const journal = journals.create("s1", "e1");
  return { journals, journal, path: join(root, `j${count}`, "s1", "e1.journal") };
}

const OUTCOME: JournaledOutcome = {
  status: "completed",
  exit_code: 0,
  reason: null,
  error_message: null,
  started_at: "2026-01-01T00:00:00.000Z",
  completed_at: "2026-01-01T00:00:01.000Z",
  metrics: { duration_ms: 1, cpu_time_ms: 1, peak_memory_mb: 1, io_read_bytes: 0, io_write_bytes: 0 },
  artifacts: [],
  timing: {},
};

type Entry = { seq: number; type: string; json: unknown };

function parse(text: string): Entry[] {
  return text
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => {
      const [, seq, type, json] = /^(\d+) (\w+) (.*)$/.exec(line) ?? [];
      return { seq: Number(seq), type: type ?? "", json: JSON.parse(json ?? "") };
    });
}

function chunks(entries: Entry[], type: "stdout" | "stderr"): OutputPayload[] {
  return entries.filter((entry) => entry.type === type).map((entry) => entry.json as OutputPayload);
}

const text = (value: string) => new TextEncoder().encode(value);

describe("writing", () => {
  test("numbers entries from 1 and counts bytes of each stream", async () => {
    const { journal } = newJournal();
    const all = new Response(followJournal(journal.retain(), 0)).text();
    journal.status({ status: "pending", at: "t1" }, { status: "running", at: "t2" });
    journal.output("stdout", text("é"));
    await Bun.sleep(10);
    journal.output("stdout", text("b"));
    journal.output("stderr", text("c"));
    journal.end("7", OUTCOME);
    const entries = parse(await all);
    expect(entries.map((entry) => entry.seq)).toEqual(entries.map((_, i) => i + 1));
    expect(entries.map((entry) => entry.type)).toEqual([
      "status",
      "status",
      "stdout",
      "stdout",
      "stderr",
      "result",
      "end",
    ]);
    expect(chunks(entries, "stdout").map((chunk) => [chunk.text, chunk.offset])).toEqual([
      ["é", 0],
      ["b", 2],
    ]);
    expect(entries.at(-2)?.json).toEqual({ return_value: 7 });
    expect(entries.at(-1)?.json).toMatchObject({ stdout_bytes: 3, stderr_bytes: 1, stdout_truncated: false });
  });

  test("gives the first chunk at once and merges what follows within 5 ms", async () => {
    const { journal, path } = newJournal();
    journal.output("stdout", text("first"));
    expect(readFileSync(path, "utf8")).toContain("first");
    for (let i = 0; i < 100; i++) journal.output("stdout", text(`${i} `));
    expect(chunks(parse(readFileSync(path, "utf8")), "stdout").length).toBe(1);
    const grown = Promise.withResolvers<void>();
    journal.onGrowth(grown.resolve);
    await grown.promise;
    expect(chunks(parse(readFileSync(path, "utf8")), "stdout").length).toBe(2);
    journal.end(null, OUTCOME);
  });

  test("merges at most about 32 KiB", () => {
    const { journal, path } = newJournal();
    for (let i = 0; i < 100; i++) journal.output("stdout", new Uint8Array(1000).fill(0x61));
    journal.end(null, OUTCOME);
    const sizes = chunks(parse(readFileSync(path, "utf8")), "stdout").map((chunk) => chunk.text.length);
    expect(Math.max(...sizes)).toBeLessThan(34 * 1024);
    expect(sizes.reduce((a, b) => a + b)).toBe(100_000);
  });

  test("never splits a character, wherever the chunks are cut", () => {
    const whole = "aé€😀\u{10FFFF}z".repeat(3);
    const bytes = text(whole);
    for (let size = 1; size <= 5; size++) {
      const { journal, path } = newJournal();
      for (let at = 0; at < bytes.length; at += size) {
        journal.output("stdout", bytes.subarray(at, at + size));
        journal.output("stderr", text("."));
      }
      journal.end(null, OUTCOME);
      const parts = chunks(parse(readFileSync(path, "utf8")), "stdout");
      expect(parts.map((part) => part.text).join("")).toBe(whole);
      expect(parts.every((part) => part.data === undefined && !part.text.includes("\ufffd"))).toBe(true);
      let offset = 0;
      for (const part of parts) {
        expect(part.offset).toBe(offset);
        offset += Buffer.byteLength(part.text);
      }
    }
  });

  test("keeps the true bytes beside U+FFFD", () => {
    const { journal, path } = newJournal();
    journal.output("stdout", Uint8Array.from([0x61, 0xff, 0xfe, 0x62]));
    journal.output("stdout", Uint8Array.from([0xed, 0xa0, 0x80, 0xe2, 0x82]));
    journal.end(null, OUTCOME);
    const parts = chunks(parse(readFileSync(path, "utf8")), "stdout");
    expect(parts[0]).toMatchObject({ text: "a\ufffd\ufffdb", offset: 0 });
    const bytes = Buffer.concat(parts.map((part) => Buffer.from(part.data ?? "", "base64")));
    expect([...bytes]).toEqual([0x61, 0xff, 0xfe, 0x62, 0xed, 0xa0, 0x80, 0xe2, 0x82]);
    expect(parts.at(-1)?.text.endsWith("\ufffd")).toBe(true);
  });

  test("cuts at the journal's limit, counts on, and keeps room for stderr", () => {
    const { journal, path } = newJournal({ journalLimitBytes: 100_000 });
    for (let i = 0; i < 10; i++) journal.output("stdout", new Uint8Array(40_000).fill(0x61));
    journal.output("stderr", text("Traceback"));
    journal.end(null, OUTCOME);
    const entries = parse(readFileSync(path, "utf8"));
    expect(chunks(entries, "stdout").length).toBe(2);
    expect(chunks(entries, "stderr")[0]?.text).toBe("Traceback");
    expect(entries.at(-1)?.json).toMatchObject({
      stdout_bytes: 400_000,
      stdout_truncated: true,
      stderr_truncated: false,
    });
    expect(entries.map((entry) => entry.seq)).toEqual(entries.map((_, i) => i + 1));
  });
});

describe("the disk of all journals", () => {
  const MIB = 1024 ** 2;
  const fill = (journals: Journals, id: string, bytes: number): Entry[] => {
    const journal = journals.create("s1", id);
    journal.status({ status: "pending", at: "t1" }, { status: "running", at: "t2" });
    for (let left = bytes; left > 0; left -= 65_536) journal.output("stdout", new Uint8Array(65_536).fill(0x61));
    journal.end("7", OUTCOME);
    return parse(readFileSync(join(root, `j${count}`, "s1", `${id}.journal`), "utf8"));
  };
  const namesOf = async (journals: Journals, live: string[] = []): Promise<string[]> =>
    (await journals.surplus((id) => live.includes(id))).map(({ id }) => id);

  test("is bounded: output past it is cut and counted, the rest of the journal is whole", () => {
    const { journals, journal } = newJournal({ journalsLimitBytes: MIB });
    journal.end(null, OUTCOME);
    const first = fill(journals, "a", 600_000);
    expect(first.at(-1)?.json).toMatchObject({ stdout_truncated: false });
    const second = fill(journals, "b", 600_000);
    expect(second.map((entry) => entry.seq)).toEqual(second.map((_, i) => i + 1));
    expect(second.at(-2)).toMatchObject({ type: "result", json: { return_value: 7 } });
    expect(second.at(-1)?.json).toMatchObject({ stdout_bytes: 655_360, stdout_truncated: true });
    const third = fill(journals, "c", 600_000);
    expect(third.map((entry) => entry.type)).toEqual(["status", "status", "result", "end"]);
  });

  test("names the oldest that are not live once it is nearly full, and has room again when they are gone", async () => {
    const { journals, journal } = newJournal({ journalsLimitBytes: 4 * MIB });
    journal.end(null, OUTCOME);
    const ids = ["a", "b", "c", "d"];
    for (const [i, id] of ids.entries()) {
      fill(journals, id, 700_000);
      utimesSync(join(root, `j${count}`, "s1", `${id}.journal`), 1000 - i, 1000 - i);
    }
    expect(await namesOf(journals)).toEqual([]);
    fill(journals, "e", 700_000);
    expect(await namesOf(journals)).toEqual(["d"]);
    expect(await namesOf(journals, ["d"])).toEqual(["c"]);
    journals.delete("s1", "d");
    journals.delete("s1", "d");
    expect(await namesOf(journals)).toEqual([]);
    fill(journals, "f", 700_000);
    expect(await namesOf(journals)).not.toEqual([]);
    journals.deleteSandbox("s1");
    for (const id of ids) expect(fill(journals, id, 700_000).at(-1)?.json).toMatchObject({ stdout_truncated: false });
  });

  test("counts what an executor before has left, once", async () => {
    const { journals: before, journal, path } = newJournal();
    journal.end(null, OUTCOME);
    // Times of files are no finer than a few milliseconds.
    utimesSync(path, 1, 1);
    for (const id of ["a", "b", "c", "d"]) fill(before, id, 1_000_000);
    const limits = { outputLimitBytes: 1, journalLimitBytes: 256 * MIB, journalsLimitBytes: 5 * MIB };
    const after = new Journals(join(root, `j${count}`), limits);
    fill(after, "own", 10);
    expect(await namesOf(after)).toEqual([]);
    const failed = (path: string, error: unknown) => expect([path, error]).toEqual([]);
    await recoverJournals(
      after.paths(),
      0,
      () => false,
      failed,
      (id, bytes) => after.found(id, bytes),
    );
    expect(await namesOf(after)).toEqual(["e1", "a"]);
  });
});

describe("reading", () => {
  test("starts at any entry, in a journal with short and long lines", async () => {
    const { journals, journal } = newJournal();
    for (let i = 0; i < 300; i++) {
      journal.output("stdout", text(`${i}\n`));
      journal.output("stderr", new Uint8Array(i % 7 === 0 ? 40_000 : 200).fill(0x78));
    }
    journal.end(null, OUTCOME);
    const source = () => journals.open("e1") ?? expect.unreachable();
    const whole = parse(await new Response(followJournal(source(), 0)).text());
    for (const after of [0, 1, 2, 5, Math.floor(whole.length / 2), whole.length - 1, whole.length, whole.length + 5]) {
      const part = parse(await new Response(followJournal(source(), after)).text());
      expect(part).toEqual(whole.slice(after));
    }
  });

  test("follows a live journal from an entry that is not there yet", async () => {
    const { journal } = newJournal();
    journal.status({ status: "pending", at: "t" });
    const late = new Response(followJournal(journal.retain(), 2)).text();
    await Bun.sleep(1);
    journal.status({ status: "running", at: "t" });
    journal.output("stdout", text("x"));
    journal.end(null, OUTCOME);
    expect(parse(await late).map((entry) => entry.seq)).toEqual([3, 4]);
  });

  test("a reader that leaves is forgotten at once", async () => {
    const { journal } = newJournal();
    journal.status({ status: "pending", at: "t" });
    const reader = followJournal(journal.retain(), 0).getReader();
    await reader.read();
    const next = reader.read();
    await Bun.sleep(0);
    expect(journal.waiting).toBe(1);
    await reader.cancel();
    expect((await next).done).toBe(true);
    expect(journal.waiting).toBe(0);
    journal.end(null, OUTCOME);
    expect(() => statSync(`/proc/self/fd/${journal.fd}`)).toThrow();
  });

  test("collects the record's output, cut between characters", async () => {
    const { journals, journal } = newJournal();
    for (let i = 0; i < 1000; i++) journal.output("stdout", text("€"));
    journal.output("stderr", Uint8Array.from([0xff]));
    journal.end(null, OUTCOME);
    const source = () => journals.open("e1") ?? expect.unreachable();
    expect(await collectOutput(source(), 10_000)).toEqual({ stdout: "€".repeat(1000), stderr: "\ufffd" });
    expect((await collectOutput(source(), 100)).stdout).toBe("€".repeat(33));
  });
});

describe("recovery", () => {
  test("a journal without its end is cut to whole entries and says crashed", async () => {
    const { journals, journal, path } = newJournal();
    journal.status(
      { status: "pending", at: "2026-01-01T00:00:00.000Z" },
      { status: "running", at: "2026-01-01T00:00:00.500Z" },
    );
    journal.output("stdout", text("up\n"));
    appendFileSync(path, '4 stdout {"text":"par');
    const source = journals.open("e1") ?? expect.unreachable();
    const entries = parse(await new Response(followJournal(source, 0)).text());
    expect(entries.map((entry) => entry.type)).toEqual(["status", "status", "stdout", "end"]);
    expect(entries[3]?.json as Outcome).toMatchObject({
      status: "crashed",
      reason: "executor_lost",
      exit_code: null,
      started_at: "2026-01-01T00:00:00.500Z",
      stdout_bytes: 3,
    });
  });

  test("an ended journal stays as it is, whatever follows its end", () => {
    const { journals, journal, path } = newJournal();
    journal.end(null, OUTCOME);
    const before = readFileSync(path, "utf8");
    appendFileSync(path, "2 st");
    journals.open("e1")?.release();
    expect(readFileSync(path, "utf8")).toBe(before);
  });

  test("an end that is of another file counts for nothing", () => {
    const { journals, journal, path } = newJournal();
    journal.status({ status: "pending", at: "2026-01-01T00:00:00.000Z" });
    journal.output("stdout", text("kept"));
    appendFileSync(path, '9 stdout {"te\n17 end {"status":"completed"}\n');
    journals.open("e1")?.release();
    const entries = parse(readFileSync(path, "utf8"));
    expect(entries.map(({ seq, type }) => `${seq} ${type}`)).toEqual(["1 status", "2 stdout", "3 end"]);
    expect(entries[2]?.json).toMatchObject({ status: "crashed", stdout_bytes: 4 });
  });

  test("an empty journal, and one with bytes that were never written, get an end", () => {
    for (const damage of ["", "\0\0\0\0", "\0\0\n\0\n"]) {
      const { journals, journal, path } = newJournal();
      journal.status({ status: "pending", at: "2026-01-01T00:00:00.000Z" });
      if (damage === "") truncateSync(path, 0);
      appendFileSync(path, damage);
      journals.open("e1")?.release();
      const entries = parse(readFileSync(path, "utf8"));
      expect(entries.at(-1)).toMatchObject({ type: "end", seq: entries.length, json: { status: "crashed" } });
    }
  });
});

test("100 MB of output pass at 100 MB/s and more", async () => {
  const { journal } = newJournal();
  const chunk = text("0123456789 abcdefghijklmnopqrstuvwxyz 0123456789 abcdefghij\n".repeat(1100)).subarray(0, 65_536);
  const reading = (async () => {
    let bytes = 0;
    for await (const block of followJournal(journal.retain(), 0)) bytes += block.length;
    return bytes;
  })();
  const startedMs = performance.now();
  for (let i = 0; i < 1600; i++) {
    journal.output("stdout", chunk);
    if (i % 16 === 0) await Promise.resolve();
  }
  journal.end(null, OUTCOME);
  expect(await reading).toBe(journal.size);
  const seconds = (performance.now() - startedMs) / 1000;
  expect((1600 * 65_536) / 1e6 / seconds).toBeGreaterThan(100);
}, 20_000);
