/**
 * Prints what an execution writes, as it writes it, with nothing missing or doubled when connections are cut.
 *
 *     bun follow-fetch.ts http://localhost:8000 exec_20260131120000_0a1b2c3d
 *
 * SANDBOX_KEY is the key, if the server asks for one. It ends with the execution's own exit code.
 */
type Event = { seq: number; type: string; data: { text: string; exit_code: number | null } };

const [url, id] = process.argv.slice(2);
if (id === undefined) {
  process.stderr.write("usage: bun follow-fetch.ts URL EXECUTION\n");
  process.exit(2);
}
const key = process.env.SANDBOX_KEY;
let seen = 0;
let hasEnded = false;

/** The events of one connection. */
async function* events(): AsyncGenerator<Event> {
  const response = await fetch(`${url}/api/v1/executions/${id}/events`, {
    headers: {
      Accept: "application/x-ndjson",
      "Last-Event-ID": String(seen),
      ...(key === undefined ? {} : { Authorization: `Bearer ${key}` }),
    },
  });
  if (response.status >= 400 && response.status < 500) {
    process.stderr.write(`refused: ${await response.text()}\n`);
    process.exit(1);
  }
  if (!response.ok || response.body === null) return;
  let rest = "";
  for await (const chunk of response.body.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + chunk).split("\n");
    // The last line has not come whole yet: if it is cut, its event comes again.
    rest = lines.pop() ?? "";
    for (const line of lines) if (line !== "") yield JSON.parse(line) as Event;
  }
}

while (!hasEnded) {
  try {
    for await (const { seq, type, data } of events()) {
      seen = seq;
      if (type === "stdout") process.stdout.write(data.text);
      if (type === "stderr") process.stderr.write(data.text);
      if (type !== "end") continue;
      process.exitCode = data.exit_code ?? 1;
      hasEnded = true;
    }
  } catch {
    // The connection was cut, or none could be made.
  }
  if (!hasEnded) await new Promise((resolve) => setTimeout(resolve, 500));
}
