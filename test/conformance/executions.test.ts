import { beforeAll, describe, expect, test } from "bun:test";
import { conformanceTarget } from "./target.ts";

const client = conformanceTarget();
let session = "";
beforeAll(async () => {
  session = await client().session();
});

const HANDLER = "def handler(event):\n    return {'got': event}\n";

describe("submitting", () => {
  test("answers at once with a pending execution and its location", async () => {
    const { status, body, headers } = await client().post(`/sessions/${session}/executions`, {
      language: "python",
      code: "print('x')",
    });
    expect(status).toBe(201);
    expect(body["id"]).toMatch(/^exec_\d{14}_[0-9a-f]{8}$/);
    expect(["pending", "running", "completed"]).toContain(body["status"]);
    expect(headers.get("Location")).toEndWith(`/executions/${body["id"]}`);
    expect(headers.get("X-Request-ID")).toBeTruthy();
  });

  test("with wait: 200 once it ended", async () => {
    const body = await client().run(session, HANDLER, { event: { a: 1 } });
    expect(body).toMatchObject({
      status: "completed",
      exit_code: 0,
      return_value: { got: { a: 1 } },
      session_id: session,
    });
    expect(body["execution_time"]).toBeGreaterThan(0);
    expect(body["metrics"]["duration_ms"]).toBeGreaterThan(0);
    expect(body["completed_at"]).toEndWith("Z");
  });

  test("with wait: 202 and the present state when the time is over first", async () => {
    const { status, body } = await client().post(`/sessions/${session}/executions?wait=0.2`, {
      language: "python",
      code: "import time; time.sleep(30)",
    });
    expect(status).toBe(202);
    expect(["pending", "running"]).toContain(body["status"]);
    const cancelled = await client().post(`/executions/${body["id"]}/cancel`);
    expect(cancelled.body).toMatchObject({ status: "cancelled", reason: "cancelled" });
  });

  test("the old path answers 201 with four fields", async () => {
    const { status, body } = await client().post(`/executions/sessions/${session}/execute`, {
      language: "python",
      code: "pass",
    });
    expect(status).toBe(201);
    expect(Object.keys(body).toSorted()).toEqual(["created_at", "execution_id", "session_id", "status"]);
    expect(body["status"]).toBe("pending");
  });

  test("execute-sync answers 200 in any terminal state", async () => {
    const path = `/executions/sessions/${session}/execute-sync`;
    const good = await client().post(path, { language: "shell", code: "echo hi; exit 4" });
    expect(good.status).toBe(200);
    expect(good.body).toMatchObject({ status: "failed", exit_code: 4, stdout: "hi\n", reason: "exit_code" });
  });

  test("execute-sync bounds its parameters and gives up with 408 that names the execution", async () => {
    const path = `/executions/sessions/${session}/execute-sync`;
    const body = { language: "shell", code: "sleep 60" };
    expect((await client().post(`${path}?sync_timeout=9`, body)).status).toBe(422);
    expect((await client().post(`${path}?sync_timeout=3601`, body)).status).toBe(422);
    expect((await client().post(`${path}?poll_interval=0.05`, body)).status).toBe(422);
    const late = await client().post(`${path}?sync_timeout=10`, body);
    expect(late.status).toBe(408);
    const id = /exec_\d{14}_[0-9a-f]{8}/.exec(JSON.stringify(late.body))?.[0];
    expect((await client().get(`/executions/${id}`)).body["status"]).toBe("running");
    await client().post(`/executions/${id}/cancel`);
  }, 20_000);

  test("code is counted in characters, whatever they take", async () => {
    const python = (text: string) =>
      client().post(`/sessions/${session}/executions?wait=30`, { language: "python", code: text });
    const wide = "\u{1F600}".repeat(1_048_576 - 10);
    expect(await python(`print(1) #${wide}`)).toMatchObject({
      status: 200,
      body: { status: "completed", stdout: "1\n" },
    });
    expect(await python(`print(1) ##${wide}`)).toMatchObject({
      status: 422,
      body: { detail: [{ type: "string_too_long", loc: ["body", "code"] }] },
    });
  });

  test("one idempotency key runs once", async () => {
    const submit = () =>
      client().post(
        `/sessions/${session}/executions`,
        { language: "shell", code: "echo once >> idem.txt; wc -l < idem.txt" },
        { "Idempotency-Key": "key-1" },
      );
    const answers = await Promise.all([submit(), submit(), submit()]);
    const ids = new Set(answers.map((answer) => answer.body["id"]));
    expect(ids.size).toBe(1);
    const id = [...ids][0] as string;
    await client().allEvents(id);
    expect((await client().get(`/executions/${id}`)).body["stdout"]).toBe("1\n");
  });

  test("the 9th waits and the 73rd is refused with Retry-After", async () => {
    const busy = await client().session();
    const ids = await Promise.all(
      Array.from({ length: 72 }, () => client().submit(busy, "sleep 60", { language: "shell" })),
    );
    const refused = await client().post(`/sessions/${busy}/executions`, { language: "shell", code: "true" });
    expect(refused.status).toBe(429);
    expect(refused.body["code"]).toBe("queue_full");
    expect(Number(refused.headers.get("Retry-After"))).toBeGreaterThan(0);
    const states = await client().get(`/sessions/${busy}/executions?limit=200`);
    const running = (states.body["items"] as { status: string }[]).filter((one) => one.status === "running");
    expect(running.length).toBeLessThanOrEqual(8);
    expect(states.body["total"]).toBe(ids.length);
    expect((await client().raw("DELETE", `/sessions/${busy}`)).status).toBe(204);
  });
});

describe("reading", () => {
  test("all three paths, and the list, newest first", async () => {
    const one = await client().run(session, "print(1)");
    const two = await client().run(session, "print(2)");
    for (const suffix of ["", "/status", "/result"])
      expect((await client().get(`/executions/${one["id"]}${suffix}`)).body).toMatchObject({
        id: one["id"],
        stdout: "1\n",
      });
    for (const path of [
      `/sessions/${session}/executions?limit=2`,
      `/executions/sessions/${session}/executions?limit=2`,
    ]) {
      const { body } = await client().get(path);
      expect(body["items"].map((item: { id: string }) => item.id)).toEqual([two["id"], one["id"]]);
      expect(body).toMatchObject({ limit: 2, offset: 0, has_more: true });
    }
  });

  test("unknown: 404 in one shape", async () => {
    const { status, body } = await client().get("/executions/exec_20200101000000_00000000");
    expect(status).toBe(404);
    expect(body).toMatchObject({ error: "Not Found", code: "execution_not_found" });
    expect(body["request_id"]).toBeTruthy();
    expect(typeof body["detail"]).toBe("string");
  });
});

describe("ending", () => {
  test("an exception keeps earlier output and shows the user's own line", async () => {
    const body = await client().run(session, "print('before')\n\n1/0\n");
    expect(body).toMatchObject({ status: "failed", reason: "exception", stdout: "before\n" });
    expect(body["exit_code"]).not.toBe(0);
    expect(body["stderr"]).toContain("line 3");
    expect(body["stderr"]).toContain("ZeroDivisionError");
    expect(body["stderr"]).not.toContain("zygote");
  });

  test("sys.exit(3): failed, 3", async () => {
    expect(await client().run(session, "import sys; sys.exit(3)")).toMatchObject({ status: "failed", exit_code: 3 });
  });

  test("a timeout: 124, output so far, every process dead", async () => {
    const code =
      "import os,time,subprocess\nprint('start', flush=True)\nsubprocess.Popen(['setsid','sleep','77.5'])\ntime.sleep(60)";
    const body = await client().run(session, code, { timeout: 1 });
    expect(body).toMatchObject({ status: "timeout", exit_code: 124, reason: "timeout", stdout: "start\n" });
    expect(body["execution_time"]).toBeLessThan(1.5);
    expect(
      (await client().run(session, "pgrep -xf 'sleep 77.5' | wc -l", { language: "shell" }))["stdout"].trim(),
    ).toBe("0");
  });

  test("cancel: twice the same, and no process is left", async () => {
    const id = await client().submit(session, "setsid sleep 88.5 & echo go; sleep 88.5", { language: "shell" });
    for await (const event of client().events(id)) if (event.type === "stdout") break;
    const first = await client().post(`/executions/${id}/cancel`);
    expect(first).toMatchObject({ status: 200, body: { status: "cancelled", stdout: "go\n" } });
    const second = await client().post(`/executions/${id}/cancel`);
    expect(second.body).toEqual(first.body);
    expect(
      (await client().run(session, "pgrep -xf 'sleep 88.5' | wc -l", { language: "shell" }))["stdout"].trim(),
    ).toBe("0");
  });

  test("killed from inside: failed by the signal", async () => {
    const body = await client().run(session, "import os; os.kill(os.getpid(), 9)");
    expect(body).toMatchObject({ status: "failed", reason: "signal", exit_code: 137 });
  });

  test("over its memory: failed, and says memory; the session lives on", async () => {
    const small = await client().session({ memory: "128Mi" });
    const body = await client().run(
      small,
      "b = bytearray(400 * 1024 * 1024)\nfor i in range(0, len(b), 4096): b[i] = 1",
    );
    expect(body["status"]).toBe("failed");
    expect(body["error_message"]).toContain("memory");
    expect(body["reason"]).toBe("memory_limit");
    expect((await client().run(small, "print('alive')"))["stdout"]).toBe("alive\n");
    await client().raw("DELETE", `/sessions/${small}`);
  });

  test("a value that is not JSON fails with a clear message", async () => {
    const body = await client().run(session, "def handler(event):\n    return object()");
    expect(body).toMatchObject({ status: "failed", reason: "invalid_result" });
    expect(body["error_message"]).toContain("object");
  });

  test("falsy values come back as themselves; NaN and infinity as null", async () => {
    const code = "def handler(event):\n    return [0, '', False, None, [], {}, float('nan'), float('inf')]";
    expect((await client().run(session, code))["return_value"]).toEqual([0, "", false, null, [], {}, null, null]);
  });

  test("numbers keep their digits, in both directions and wherever they are shown", async () => {
    const event =
      '{"n": 12345678901234567890,\r\n "f": 1.0, "e": 1E+2, "big": 1' + "0".repeat(5000) + ', "ü": "\\u00fc"}';
    const code = `def handler(event):
    assert type(event["f"]) is float and event["e"] == 100 and event["big"] == 10 ** 5000 and event["ü"] == "ü"
    return [2**63 + 1, event["n"], -(2**64), 1.0, 1e22, "ü\\ud800"]`;
    const expected =
      '"return_value":[9223372036854775809,12345678901234567890,-18446744073709551616,1.0,1e+22,"ü\\ud800"]';
    const body = `{"language":"python","event":{"n":0},"code":${JSON.stringify(code)},"\\u0065vent":${event}}`;
    const submit = (headers: Record<string, string>, query = "") =>
      client().raw("POST", `/sessions/${session}/executions${query}`, body, {
        "Content-Type": "application/json",
        ...headers,
      });
    const text = await (await submit({}, "?wait=30")).text();
    expect(text).toContain(expected);
    const { id } = JSON.parse(text) as { id: string };
    for (const path of [`/executions/${id}`, `/executions/${id}/result`, `/sessions/${session}/executions?limit=1`])
      expect(await (await client().raw("GET", path)).text()).toContain(expected);
    for (const accept of ["text/event-stream", "application/x-ndjson"]) {
      const stream = await (await submit({ Accept: accept })).text();
      expect(stream.split(expected)).toHaveLength(3);
    }
    const shell = `{"language":"shell","code":"echo \\"$EVENT_JSON\\"","event":{"n":\n12345678901234567890}}`;
    const path = `/sessions/${session}/executions?wait=30`;
    const echoed = await client().raw("POST", path, shell, { "Content-Type": "application/json" });
    expect(((await echoed.json()) as { stdout: string }).stdout).toBe('{"n": 12345678901234567890}\n');
  });

  test("forks and leaves: ends with its leader; the rest lives until the session ends", async () => {
    const code = "import subprocess; subprocess.Popen(['sleep', '66.5'], start_new_session=True); print('left')";
    expect(await client().run(session, code)).toMatchObject({ status: "completed", stdout: "left\n" });
    expect(
      (await client().run(session, "pgrep -xf 'sleep 66.5' | wc -l", { language: "shell" }))["stdout"].trim(),
    ).not.toBe("0");
  });

  test("closes its stdout: completed", async () => {
    expect(await client().run(session, "import os; os.close(1); os.close(2)")).toMatchObject({
      status: "completed",
      exit_code: 0,
    });
  });

  test("deletes its workspace: the session goes on", async () => {
    const own = await client().session();
    await client().run(own, "touch a; rm -rf /workspace /workspace/* /workspace/.[!.]*; true", { language: "shell" });
    expect(await client().run(own, "open('b.txt','w').write('x'); print('ok')")).toMatchObject({ stdout: "ok\n" });
    await client().raw("DELETE", `/sessions/${own}`);
  });

  test("fills its disk: it alone is harmed", async () => {
    const own = await client().session({ disk: "64Mi" });
    const body = await client().run(own, "head -c 500M /dev/zero > big || exit 9", { language: "shell" });
    expect(body["status"]).toBe("failed");
    await client().run(own, "rm -f big", { language: "shell" });
    expect(await client().run(own, "print('alive')")).toMatchObject({ stdout: "alive\n" });
    await client().raw("DELETE", `/sessions/${own}`);
  });

  test("reports what files changed", async () => {
    const name = `made-${crypto.randomUUID()}.csv`;
    const body = await client().run(session, `open('${name}','w').write('a,b\\n')`);
    expect(body["artifacts"]).toContainEqual(
      expect.objectContaining({ path: name, size: 4, type: "created", mime_type: "text/csv" }),
    );
  });

  test("variables: the execution's over the session's; the interpreter's state does not survive", async () => {
    const own = await client().session({ env_vars: { A: "session", B: "session" } });
    const code = "import os; print(os.environ['A'], os.environ['B'], globals().get('left')); left = 1";
    expect((await client().run(own, code, { env_vars: { B: "mine" } }))["stdout"]).toBe("session mine None\n");
    expect((await client().run(own, code))["stdout"]).toBe("session session None\n");
    await client().raw("DELETE", `/sessions/${own}`);
  });

  test("stdin reaches the program", async () => {
    const body = await client().run(session, "import sys; print(sys.stdin.read()[::-1])", { stdin: "héllo" });
    expect(body["stdout"]).toBe("olléh\n");
  });
});
