import { expect, test } from "bun:test";
import { JournalFault, readJournal, type JournalEntry } from "../../src/executions/journal-entry.ts";

async function read(pieces: Iterable<Uint8Array>): Promise<JournalEntry[]> {
  const stream = new ReadableStream<Uint8Array>({
    start(out) {
      for (const piece of pieces) out.enqueue(piece);
      out.close();
    },
  });
  return (await Array.fromAsync(readJournal(stream))).flat();
}

test("entries come whole, however they were cut", async () => {
  const lines = [
    '7 stdout {"text":"ä€🎉"}',
    '8 result {"return_value":1}',
    `9 stdout ${JSON.stringify({ text: "x".repeat(9000) })}`,
  ];
  const bytes = Buffer.from(`${lines.join("\n")}\n`);
  for (const size of [1, 2, 3, 100, bytes.length]) {
    const pieces = Array.from({ length: Math.ceil(bytes.length / size) }, (_, i) =>
      bytes.subarray(i * size, (i + 1) * size),
    );
    expect((await read(pieces)).map(({ seq, type, json }) => `${seq} ${type} ${json}`)).toEqual(lines);
  }
});

test("a line that was cut off is dropped", async () => {
  expect(await read([Buffer.from("1 status {}\n2 sta")])).toHaveLength(1);
});

test.each([
  "0 status {}\n",
  "x status {}\n",
  "1\n",
  "\n",
  "1 status {}\n1 status {}\n",
  "1.5 status {}\n",
  "1 status {}\revent: end\n",
])("%j is no journal", async (text) => {
  const error = await read([Buffer.from(text)]).catch((caught: unknown) => caught);
  expect(error).toBeInstanceOf(JournalFault);
});
