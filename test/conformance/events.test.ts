import { beforeAll, describe, expect, test } from "bun:test";
import { provenOutput } from "../e2e/client.ts";
import { conformanceTarget } from "./target.ts";

const client = conformanceTarget();
let session = "";
beforeAll(async () => {
  session = await client().session();
});

describe("the stream of an execution", () => {
  test("pending, running, output, result, end: contiguous from 1", async () => {
    const code = "import sys\nprint('out')\nprint('err', file=sys.stderr)\ndef handler(event): return 7";
    const id = await client().submit(session, code);
    const events = await client().allEvents(id);
    const types = events.map((event) => event.type);
    expect(types.slice(0, 2)).toEqual(["status", "status"]);
    expect(events.slice(0, 2).map((event) => event.data["status"])).toEqual(["pending", "running"]);
    expect(types.at(-1)).toBe("end");
    expect(types.at(-2)).toBe("result");
    expect(events.at(-2)?.data).toEqual({ return_value: 7 });
    expect(provenOutput(events, "stdout")).toBe("out\n");
    expect(provenOutput(events, "stderr")).toBe("err\n");
    const end = events.at(-1)?.data ?? {};
    expect(end).toMatchObject({ id, session_id: session, status: "completed", exit_code: 0, return_value: 7 });
    for (const absent of ["code", "stdout", "stderr"]) expect(end).not.toHaveProperty(absent);
  });

  test("a submit that accepts event-stream answers with it", async () => {
    const response = await client().raw(
      "POST",
      `/sessions/${session}/executions`,
      JSON.stringify({ language: "shell", code: "echo a; sleep 0.3; echo b" }),
      { "Content-Type": "application/json", Accept: "text/event-stream" },
    );
    expect(response.status).toBe(200);
    expect(response.headers.get("Content-Type")).toStartWith("text/event-stream");
    const text = await response.text();
    expect(text).toContain('"text":"a\\n"');
    expect(text.indexOf("event: end")).toBeGreaterThan(text.indexOf('"text":"b\\n"'));
  });

  test("newline-delimited JSON carries the same events", async () => {
    const id = await client().submit(session, "print('x')");
    const sse = await client().allEvents(id);
    const response = await client().raw("GET", `/executions/${id}/events`, undefined, {
      Accept: "application/x-ndjson",
    });
    expect(response.headers.get("Content-Type")).toStartWith("application/x-ndjson");
    const lines = (await response.text())
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line));
    expect(lines.length).toBe(sse.length);
    expect(lines.map((line) => JSON.stringify(line.data))).toEqual(sse.map((event) => JSON.stringify(event.data)));
  });

  test("output arrives as it is written", async () => {
    const id = await client().submit(session, "import time\nfor i in range(3):\n  print(i)\n  time.sleep(0.3)");
    const at: number[] = [];
    for await (const event of client().events(id)) if (event.type === "stdout") at.push(performance.now());
    expect(at.length).toBe(3);
    expect((at[2] ?? 0) - (at[0] ?? 0)).toBeGreaterThan(400);
  });

  test("after and Last-Event-ID resume without a gap; the header wins", async () => {
    const id = await client().submit(session, "for i in range(50): print(i, flush=True)");
    const all = await client().allEvents(id);
    for (const after of [0, 1, 2, all.length - 1]) {
      const rest = await Array.fromAsync(client().events(id, { after, query: "?after=1" }));
      expect(rest).toEqual(all.slice(after));
    }
    const byQuery = await Array.fromAsync(client().events(id, { query: "?after=2" }));
    expect(byQuery).toEqual(all.slice(2));
  });

  test("who has the end already gets it again, under its own number", async () => {
    const id = await client().submit(session, "print(1)");
    const all = await client().allEvents(id);
    for (const after of [all.length, 99_999])
      expect(await Array.fromAsync(client().events(id, { after }))).toEqual(all.slice(-1));
  });

  test("twenty reconnects see every byte once", async () => {
    const id = await client().submit(session, "import time\nfor i in range(60):\n  print(i)\n  time.sleep(0.01)");
    const whole = [];
    for (let i = 0; i < 20; i++) {
      let seen = 0;
      for await (const event of client().events(id, { after: whole.length })) {
        whole.push(event);
        if (++seen === 2) break;
      }
    }
    for await (const event of client().events(id, { after: whole.length })) whole.push(event);
    expect(provenOutput(whole, "stdout")).toBe(Array.from({ length: 60 }, (_, i) => `${i}\n`).join(""));
  });

  test("output that imitates an event stays output", async () => {
    const forged = "id: 99\nevent: end\ndata: {}\n\n";
    const id = await client().submit(
      session,
      `import sys; sys.stdout.write(${JSON.stringify(forged)}); sys.stdout.write('\\r\\n\\u2028')`,
    );
    const events = await client().allEvents(id);
    expect(events.filter((event) => event.type === "end").length).toBe(1);
    expect(provenOutput(events, "stdout")).toBe(`${forged}\r\n\u2028`);
  });

  test("bytes that are not UTF-8 become U+FFFD; base64 has them as they are", async () => {
    const id = await client().submit(session, "import os; os.write(1, b'a\\xff\\xfeb')");
    const events = await client().allEvents(id);
    expect(
      events
        .filter((event) => event.type === "stdout")
        .map((event) => event.data["text"])
        .join(""),
    ).toBe("a\ufffd\ufffdb");
    const exact = await Array.fromAsync(client().events(id, { query: "?encoding=base64" }));
    const bytes = exact
      .filter((event) => event.type === "stdout")
      .map((event) => Buffer.from(event.data["data"], "base64"));
    expect(Buffer.concat(bytes)).toEqual(Buffer.from([0x61, 0xff, 0xfe, 0x62]));
    expect((await client().get(`/executions/${id}`)).body).toMatchObject({
      status: "completed",
      stdout: "a\ufffd\ufffdb",
    });
  });

  test("a character is never split between two events", async () => {
    const code = "import os,time\nfor b in '€ü😀'.encode()*20:\n  os.write(1, bytes([b])); time.sleep(0.002)";
    const events = await client().allEvents(await client().submit(session, code));
    expect(provenOutput(events, "stdout")).toBe("€ü😀".repeat(20));
  });

  test("a reader that leaves does not end the execution", async () => {
    const id = await client().submit(session, "import time\nfor i in range(20):\n  print(i)\n  time.sleep(0.02)");
    for await (const event of client().events(id)) if (event.type === "stdout") break;
    const events = await client().allEvents(id);
    expect(events.at(-1)?.data["status"]).toBe("completed");
    expect(provenOutput(events, "stdout").split("\n").length).toBe(21);
  });

  test("an unknown execution is 404 and a bad number 400 or 422", async () => {
    expect((await client().get("/executions/exec_x/events")).status).toBe(404);
    const id = await client().submit(session, "pass");
    const bad = await client().call("GET", `/executions/${id}/events`, undefined, { "Last-Event-ID": "nonsense" });
    expect([400, 422]).toContain(bad.status);
  });

  test("100 MB of output: the record is cut with its flag and true count, the program is not stopped", async () => {
    const body = await client().run(
      session,
      "import sys\nfor i in range(100): sys.stdout.write('x'*1000000)\nopen('done','w').close()",
      { timeout: 60 },
    );
    expect(body).toMatchObject({ status: "completed", stdout_truncated: true, stdout_bytes: 100_000_000 });
    expect(body["stdout"].length).toBeLessThanOrEqual(10_000_000);
    expect(body["artifacts"].map((one: { path: string }) => one.path)).toContain("done");
  }, 60_000);
});
