/**
 * The same with EventSource, as a page has it: it reconnects by itself and says which event it saw last. It sends no key,
 * so it is for a server that asks for none, or behind a proxy that adds one; otherwise see follow-fetch.ts.
 */
declare const EventSource: { new (url: string): EventSource; CLOSED: number };
type Data = { text: string; exit_code: number | null };

const [url, id] = process.argv.slice(2);
if (id === undefined) {
  process.stderr.write("usage: bun follow-eventsource.ts URL EXECUTION\n");
  process.exit(2);
}
let seen = 0;

function follow(): void {
  const source = new EventSource(`${url}/api/v1/executions/${id}/events?after=${seen}`);
  const on = (type: string, act: (data: Data) => void): void =>
    source.addEventListener(type, (event) => {
      const { lastEventId, data } = event as MessageEvent<string>;
      seen = Number(lastEventId);
      act(JSON.parse(data) as Data);
    });
  on("stdout", ({ text }) => process.stdout.write(text));
  on("stderr", ({ text }) => process.stderr.write(text));
  on("end", ({ exit_code }) => {
    source.close();
    process.exitCode = exit_code ?? 1;
  });
  // After an answer that is no stream (a proxy's 502, say) it gives up: then a new one goes on.
  source.addEventListener("error", () => {
    if (source.readyState === EventSource.CLOSED) setTimeout(follow, 1000);
  });
}
follow();
