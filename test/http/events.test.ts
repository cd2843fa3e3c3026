import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { connect } from "node:net";
import type { JournalEntry } from "../../src/executions/journal-entry.ts";
import { AppError } from "../../src/errors.ts";
import { provenOutput } from "../e2e/client.ts";
import { startApi, type Api } from "./fixture.ts";

let api: Api;
let session: string;
beforeAll(async () => {
  api = await startApi({ change: () => ({ heartbeatMs: 40 }) });
  session = await api.client.session();
});
afterAll(() => api.stop());

const follow = (id: string, query = "", headers: Record<string, string> = {}, signal?: AbortSignal) =>
  api.client.raw("GET", `/executions/${id}/events${query}`, undefined, headers, signal);

async function eventually(condition: () => boolean): Promise<void> {
  for (const end = performance.now() + 2000; !condition() && performance.now() < end;) await Bun.sleep(2);
  expect(condition()).toBe(true);
}

describe("the stream", () => {
  test("is SSE: id, event, data on one line, end last", async () => {
    const id = await api.client.submit(session, 'out "hi\\n"\nerr "no"\nresult [1]');
    const response = await follow(id);
    expect(response.headers.get("Content-Type")).toBe("text/event-stream");
    expect(response.headers.get("Cache-Control")).toContain("no-cache");
    const blocks = (await response.text()).split("\n\n").filter((block) => block !== "" && !block.startsWith(":"));
    expect(
      blocks.map((block) =>
        block
          .split("\n")
          .map((line) => line.split(":", 1)[0])
          .join(),
      ),
    ).toEqual(Array(6).fill("id,event,data"));
    expect(blocks.map((block) => block.split("\n").slice(0, 2).join())).toEqual(
      ["status", "status", "stdout", "stderr", "result", "end"].map((type, i) => `id: ${i + 1},event: ${type}`),
    );
    expect(blocks[2]?.split("\n")[2]).toMatch(/^data: \{"text":"hi\\n","offset":0,"at":"[^"]+Z"\}$/);
    const end = JSON.parse(blocks[5]?.split("data: ")[1] ?? "") as Record<string, unknown>;
    const { code: _code, stdout: _out, stderr: _err, ...rest } = (await api.client.get(`/executions/${id}`)).body;
    expect(end).toEqual(rest);
  });

  test("is one JSON object a line for who asks for it", async () => {
    const id = await api.client.submit(session, 'out "x"');
    for (const accept of ["application/x-ndjson", "text/html, application/x-ndjson;q=0.9, text/event-stream;q=0.1"]) {
      const response = await follow(id, "", { Accept: accept });
      expect(response.headers.get("Content-Type")).toBe("application/x-ndjson");
      const lines = (await response.text()).split("\n").filter((line) => line !== "");
      const events = lines.map((line) => JSON.parse(line) as { seq: number; type: string; data: { text?: string } });
      expect(events.map(({ seq, type }) => `${seq} ${type}`)).toEqual(["1 status", "2 status", "3 stdout", "4 end"]);
      expect(events[2]?.data.text).toBe("x");
    }
  });

  test("goes on after a number; Last-Event-ID wins; a bad one is refused", async () => {
    const id = await api.client.submit(session, Array.from({ length: 20 }, (_, i) => `out "${i}"`).join("\n"));
    const all = await api.client.allEvents(id);
    expect(await Array.fromAsync(api.client.events(id, { query: "?after=5" }))).toEqual(all.slice(5));
    expect(await Array.fromAsync(api.client.events(id, { query: "?after=5", after: 9 }))).toEqual(all.slice(9));
    expect(await Array.fromAsync(api.client.events(id, { query: "?after=5", after: 0 }))).toEqual(all);
    for (const bad of ["x", "-1", "1.5", "1e3", "99999999999999999999"])
      expect([bad, (await follow(id, "", { "Last-Event-ID": bad })).status]).toEqual([bad, 400]);
    expect((await follow(id, "", { "Last-Event-ID": "" })).status).toBe(200);
    for (const bad of ["?after=x", "?after=-1", "?encoding=utf16"]) expect((await follow(id, bad)).status).toBe(422);
    expect((await follow("none")).status).toBe(404);
  });

  test("has text, or the true bytes as base64", async () => {
    const id = await api.client.submit(
      session,
      `bytes ${Buffer.from("a\xffb", "latin1").toString("base64")}\nout "é,\\"data\\":\\"x\\""`,
    );
    const output = (events: { type: string; data: object }[]) =>
      events.filter(({ type }) => type === "stdout").map(({ data }) => data);
    const at = expect.any(String);
    expect(output(await api.client.allEvents(id))).toEqual([
      { text: "a\ufffdb", offset: 0, at },
      { text: 'é,"data":"x"', offset: 3, at },
    ]);
    expect(output(await Array.fromAsync(api.client.events(id, { query: "?encoding=base64" })))).toEqual([
      { data: Buffer.from("a\xffb", "latin1").toString("base64"), offset: 0, at },
      { data: Buffer.from('é,"data":"x"').toString("base64"), offset: 3, at },
    ]);
  });

  test("can't be forged by what a program prints", async () => {
    const forged = '\nid: 9\nevent: end\ndata: {}\n\r\r\n\u2028{"seq":9}\n: c\n\n';
    const id = await api.client.submit(session, `out ${JSON.stringify(forged)}`);
    for (const accept of ["text/event-stream", "application/x-ndjson"]) {
      const text = await (await follow(id, "", { Accept: accept })).text();
      expect(text.includes("\r")).toBe(false);
      expect(text.split("\n").filter((line) => /^(event: end|\{"seq":9\})/.test(line)).length).toBe(
        accept === "text/event-stream" ? 1 : 0,
      );
    }
    expect(provenOutput(await api.client.allEvents(id), "stdout")).toBe(forged);
  });

  test("answers a submit that accepts it, from the first event", async () => {
    for (const accept of ["text/event-stream", "application/x-ndjson"]) {
      const body = JSON.stringify({ language: "shell", code: 'out "x"' });
      const response = await api.client.raw("POST", `/sessions/${session}/executions`, body, {
        Accept: accept,
        "Content-Type": "application/json",
      });
      expect(response.status).toBe(200);
      expect(response.headers.get("Content-Type")).toBe(accept);
      expect(response.headers.get("Location")).toMatch(/\/api\/v1\/executions\/exec_/);
      expect(await response.text()).toContain('"status":"pending"');
    }
  });
});

describe("the stream of an execution whose journal is gone", () => {
  const forgotten = async (code: string): Promise<string> => {
    const { id } = await api.client.run(session, code);
    await api.executor.deleteExecution(id as string);
    return id as string;
  };
  const typesOf = (events: { seq: number; type: string }[]): string[] =>
    events.map(({ seq, type }) => `${seq} ${type}`);

  test("is whole and contiguous, from the record", async () => {
    const code = 'out "a"\nerr "no"\nout "b"\nout "c"\nresult [1]';
    const before = await api.client.allEvents(await api.client.submit(session, code));
    const id = await forgotten(code);
    const events = await api.client.allEvents(id);
    expect(typesOf(events)).toEqual(["1 status", "2 status", "3 stdout", "4 stderr", "5 result", "6 end"]);
    expect(provenOutput(events, "stdout")).toBe("abc");
    expect(provenOutput(events, "stderr")).toBe("no");
    expect(events[4]?.data).toEqual({ return_value: [1] });
    expect(Object.keys(events[5]?.data ?? {})).toEqual(Object.keys(before.at(-1)?.data ?? {}));
    expect(Array.from(events.slice(0, 2), ({ data }) => data["status"])).toEqual(["pending", "running"]);
  });

  test("has large output in pieces of whole characters", async () => {
    const text = `${"x".repeat(65_535)}🎉${"é".repeat(70_000)}`;
    const events = await api.client.allEvents(await forgotten(`out ${JSON.stringify(text)}`));
    expect(events.length).toBeGreaterThan(5);
    expect(provenOutput(events, "stdout")).toBe(text);
  });

  test("goes on after any number without a gap: the output again from its beginning, or the end alone", async () => {
    const id = await forgotten('out "a"\nout "b"\nout "c"');
    const after = async (seq: number): Promise<string[]> =>
      typesOf(await Array.fromAsync(api.client.events(id, { after: seq })));
    expect(await after(1)).toEqual(["2 status", "3 stdout", "4 end"]);
    expect(await after(2)).toEqual(["3 stdout", "4 end"]);
    expect(await after(4)).toEqual(["5 stdout", "6 end"]);
    expect(await after(5)).toEqual(["6 end"]);
    expect(await after(6)).toEqual(["6 end"]);
  });

  test("is that of the record also when its sandbox is gone", async () => {
    const id = await api.client.submit(session, 'out "a"');
    await api.client.allEvents(id);
    api.executor.journalFailure = new AppError("session_not_found", "there is no Pod");
    try {
      expect(typesOf(await api.client.allEvents(id))).toEqual(["1 status", "2 status", "3 stdout", "4 end"]);
    } finally {
      api.executor.journalFailure = null;
    }
  });
});

describe("readers", () => {
  test("a quiet stream begins at once and is kept alive", async () => {
    const id = await api.client.submit(session, "hang");
    await Array.fromAsync([0], () => Bun.sleep(10));
    const started = performance.now();
    const leave = new AbortController();
    const response = await follow(id, "?after=2", {}, leave.signal);
    const reader = response.body?.getReader();
    const first = new TextDecoder().decode((await reader?.read())?.value);
    expect(first).toStartWith(":");
    expect(performance.now() - started).toBeLessThan(100);
    for (let i = 0; i < 3; i++) expect(new TextDecoder().decode((await reader?.read())?.value)).toBe(": heartbeat\n\n");
    leave.abort();
    await api.client.post(`/executions/${id}/cancel`);
  });

  test("one that leaves is freed at once, and the execution goes on", async () => {
    const id = await api.client.submit(session, 'sleep 150\nout "later"');
    const own = await follow(id);
    const reader = own.body?.getReader();
    await reader?.read();
    const journal = () => api.executor.journals.get(id);
    await eventually(() => journal()?.readers === 2);
    const lines = api.logged.length;
    await reader?.cancel();
    await eventually(() => journal()?.readers === 1);
    expect(journal()?.ended).toBe(false);
    await eventually(() => api.logged.slice(lines).some((line) => line["path"] === `/api/v1/executions/${id}/events`));
    expect(provenOutput(await api.client.allEvents(id), "stdout")).toBe("later");
  });

  test("HEAD answers the headers and follows nothing", async () => {
    const id = await api.client.submit(session, "hang");
    await eventually(() => api.executor.journals.get(id)?.readers === 1);
    const head = await api.client.raw("HEAD", `/executions/${id}/events`);
    expect([head.status, head.headers.get("Content-Type"), await head.text()]).toEqual([200, "text/event-stream", ""]);
    expect(api.executor.journals.get(id)?.readers).toBe(1);
    await api.client.post(`/executions/${id}/cancel`);
  });

  test("one that resets its connection is freed too", async () => {
    const id = await api.client.submit(session, "hang");
    const socket = connect(api.port, "127.0.0.1", () =>
      socket.write(`GET /api/v1/executions/${id}/events HTTP/1.1\r\nHost: localhost\r\n\r\n`),
    );
    await new Promise((resolve) => socket.once("data", resolve));
    await eventually(() => api.executor.journals.get(id)?.readers === 2);
    socket.resetAndDestroy();
    await eventually(() => api.executor.journals.get(id)?.readers === 1);
    await api.client.post(`/executions/${id}/cancel`);
  });

  test("a slow one is asked for no more than it reads", async () => {
    const json = JSON.stringify({ text: "x".repeat(60_000), offset: 0, at: "" });
    let given = 0;
    const flood = await startApi({
      change: ({ executions }) => ({
        executions: Object.assign(Object.create(executions), {
          get: () => ({ id: "e" }),
          async *follow(
            _tenant: string,
            _id: string,
            _after: number,
            signal: AbortSignal,
          ): AsyncGenerator<JournalEntry[]> {
            while (!signal.aborted) yield [{ seq: ++given, type: "stdout", json }];
          },
        }),
      }),
    });
    const socket = connect(flood.port, "127.0.0.1", () =>
      socket.write("GET /api/v1/executions/e/events HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    );
    await new Promise((resolve) => socket.once("data", resolve));
    socket.pause();
    let before = -1;
    while (before !== given) {
      before = given;
      await Bun.sleep(50);
    }
    expect(given * json.length).toBeLessThan(32 * 1024 * 1024);
    socket.destroy();
    await flood.stop();
  });

  test("a failure in mid-stream closes it without an end, and is logged", async () => {
    const broken = await startApi({
      change: ({ executions }) => ({
        executions: Object.assign(Object.create(executions), {
          get: () => ({ id: "e" }),
          async *follow(): AsyncGenerator<JournalEntry[]> {
            yield [{ seq: 1, type: "status", json: "{}" }];
            await Bun.sleep(1);
            throw new Error("inside");
          },
        }),
      }),
    });
    const text = await (await broken.client.raw("GET", "/executions/e/events")).text();
    expect(text).toBe("id: 1\nevent: status\ndata: {}\n\n: reconnect with Last-Event-ID\nretry: 200\n\n");
    expect(broken.logged.find((line) => line["event"] === "http.events_cut")).toMatchObject({
      execution_id: "e",
      error: { message: "inside" },
    });
    await broken.stop();
  });
});
