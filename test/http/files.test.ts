import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { connect } from "node:net";
import { AppError } from "../../src/errors.ts";
import { startApi, type Api } from "./fixture.ts";

let api: Api;
let session: string;
let files: string;
beforeAll(async () => {
  api = await startApi();
  session = await api.client.session();
  files = `/sessions/${session}/files`;
});
afterAll(() => api.stop());

const text = (path: string): string => new TextDecoder().decode(api.executor.files.get(path));

function form(name: string, content: string | Uint8Array<ArrayBuffer>, filename: string): FormData {
  const data = new FormData();
  data.append("note", "before");
  data.append(name, new Blob([content]), filename);
  return data;
}

async function upload(path: string, body: FormData): Promise<{ status: number; body: Record<string, unknown> }> {
  const response = await api.client.raw("POST", `${files}/upload${path}`, body);
  return { status: response.status, body: (await response.json()) as Record<string, unknown> };
}

/** What a server answers to bytes on a socket, until it or the client has closed. */
function exchange(request: string, closeAfterMs = 0): Promise<string> {
  return new Promise((resolve) => {
    let answer = "";
    const socket = connect(api.port, "127.0.0.1", () => socket.write(request));
    socket.on("data", (data) => (answer += data.toString()));
    socket.on("close", () => resolve(answer));
    if (closeAfterMs > 0) setTimeout(() => socket.destroy(), closeAfterMs);
  });
}

describe("storing", () => {
  test("PUT: 201 when new, 200 when replaced, empty too", async () => {
    const first = await api.client.call("PUT", `${files}/a/b.txt`, undefined);
    expect(first).toMatchObject({ status: 201, body: { session_id: session, file_path: "a/b.txt", size: 0 } });
    const response = await api.client.raw("PUT", `${files}/a/b.txt`, "hello");
    expect([response.status, await response.json()]).toEqual([
      200,
      { session_id: session, file_path: "a/b.txt", size: 5 },
    ]);
    expect(text("a/b.txt")).toBe("hello");
  });

  test("paths are decoded once, as UTF-8", async () => {
    for (const [sent, path] of [
      ["x%2Fy.txt", "x/y.txt"],
      ["sp%20ace+plus", "sp ace+plus"],
      ["%C3%BC%F0%9F%98%80.txt", "ü😀.txt"],
      ["ü.txt", "ü.txt"],
      ["100%25", "100%"],
      ["%2541", "%41"],
      ["semi;colon%3Fq", "semi;colon?q"],
      ["upload", "upload"],
      ["..%2E", "..."],
    ] as const) {
      expect([sent, (await api.client.raw("PUT", `${files}/${sent}`, path)).status]).toEqual([sent, 201]);
      expect(text(path)).toBe(path);
      expect(await (await api.client.raw("GET", `${files}/${sent}`)).text()).toBe(path);
    }
  });

  for (const path of [
    "%2Fetc%2Fpasswd",
    "/etc/passwd",
    "..%2Fx",
    "a%2F..%2F..%2Fx",
    "a%2F%2E%2E",
    "%2e%2e%2fx",
    "nul%00byte",
    "%ff",
    "%zz",
    "a%2F.%2Fb",
    "",
    "dir%2F",
  ])
    test(`${path === "" ? "(none)" : path}: 400 invalid_path`, async () => {
      const put = await api.client.raw("PUT", `${files}/${path}`, "x");
      expect([put.status, ((await put.json()) as { code: string }).code]).toEqual([400, "invalid_path"]);
      if (path !== "dir%2F") expect((await api.client.raw("GET", `${files}/${path}`)).status).toBe(400);
    });

  test("413 before it arrives when it says so, else as it arrives; 507 and 409 as the executor says", async () => {
    const limit = api.deps.config.maxFileBytes;
    const head = `PUT /api/v1${files}/big HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: ${limit + 1}\r\n\r\n`;
    expect(await exchange(head, 500)).toStartWith("HTTP/1.1 413");
    let left = limit + 1;
    const body = new ReadableStream<Uint8Array>({
      pull(controller) {
        if (left <= 0) return controller.close();
        controller.enqueue(new Uint8Array(Math.min(left, 1 << 20)));
        left -= 1 << 20;
      },
    });
    const late = await api.client.raw("PUT", `${files}/big`, body);
    expect([late.status, ((await late.json()) as { code: string }).code]).toEqual([413, "body_too_large"]);
    expect(api.executor.files.has("big")).toBe(false);
    expect((await api.client.raw("PUT", `${files}/exact`, new Uint8Array(limit))).status).toBe(201);
    for (const [code, status] of [
      ["disk_full", 507],
      ["file_conflict", 409],
    ] as const) {
      api.executor.fileFailure = new AppError(code, "no");
      expect((await api.client.raw("PUT", `${files}/f`, new Uint8Array(3_000_000))).status).toBe(status);
      api.executor.fileFailure = null;
    }
  });

  test("a body that is cut stores nothing", async () => {
    await exchange(`PUT /api/v1${files}/cut HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nabc`, 100);
    await exchange(
      `PUT /api/v1${files}/cut HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n`,
      100,
    );
    const part = '--B\r\nContent-Disposition: form-data; name="file"; filename="cut"\r\n\r\nabc';
    const cut = await exchange(
      `POST /api/v1${files}/upload HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: multipart/form-data; boundary=B\r\nContent-Length: ${part.length}\r\n\r\n${part}`,
    );
    expect(cut).toStartWith("HTTP/1.1 400");
    expect(cut).toContain('"code":"bad_request"');
    expect(api.executor.files.has("cut")).toBe(false);
  });
});

describe("uploading a form", () => {
  test("to a path, to a directory, under its own name", async () => {
    expect(await upload("?path=in/data.csv", form("file", "1,2", "x.csv"))).toEqual({
      status: 200,
      body: { session_id: session, file_path: "in/data.csv", size: 3 },
    });
    expect((await upload("?path=in/", form("file", "1", "x.csv"))).body["file_path"]).toBe("in/x.csv");
    expect((await upload("", form("file", "1", 'ü "q".csv'))).body["file_path"]).toContain("ü ");
    expect((await upload("", form("file", "1", "../../up.csv"))).body["file_path"]).toBe("up.csv");
    expect((await upload("?path=", form("file", "1", "C:\\dir\\win.csv"))).body["file_path"]).toBe("win.csv");
    expect(text("in/data.csv")).toBe("1,2");
  });

  test("bad paths, no file, no boundary, unknown session", async () => {
    for (const path of ["?path=../x", "?path=/x", "?path=a/../b", "?path=a%00b"])
      expect([path, (await upload(path, form("file", "1", "x"))).body["code"]]).toEqual([path, "invalid_path"]);
    expect((await upload("", form("file", "1", ".."))).body["code"]).toBe("invalid_path");
    const none = await upload("", form("other", "1", "x"));
    expect(none).toMatchObject({
      status: 422,
      body: { detail: [{ type: "missing", loc: ["body", "file"], msg: "Field required" }] },
    });
    const unbound = await api.client.raw("POST", `${files}/upload`, "x", { "Content-Type": "multipart/form-data" });
    expect(unbound.status).toBe(415);
    expect((await api.client.raw("POST", "/sessions/none/files/upload", form("file", "1", "x"))).status).toBe(404);
  });

  test("413 for a file above the limit", async () => {
    const big = form("file", new Uint8Array(api.deps.config.maxFileBytes + 1), "big");
    expect((await upload("?path=big", big)).body["code"]).toBe("body_too_large");
  });
});

test("memory does not grow with the file", async () => {
  const roomy = await startApi({ config: { maxFileBytes: 1 << 30 } });
  const id = await roomy.client.session();
  const chunk = new Uint8Array(1 << 20);
  const stream = (before: string, after: string) => {
    let sent = 0;
    return new ReadableStream<Uint8Array>({
      pull(controller) {
        if (sent === 0) controller.enqueue(Buffer.from(before));
        if (sent++ < 256) return controller.enqueue(chunk);
        controller.enqueue(Buffer.from(after));
        controller.close();
      },
    });
  };
  const part = '--B\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n';
  const put = () => roomy.client.raw("PUT", `/sessions/${id}/files/sink/put`, stream("", ""));
  const post = () =>
    roomy.client.raw("POST", `/sessions/${id}/files/upload?path=sink/form`, stream(part, "\r\n--B--\r\n"), {
      "Content-Type": "multipart/form-data; boundary=B",
    });
  expect(((await (await put()).json()) as { size: number }).size).toBe(256 << 20);
  const before = process.memoryUsage().rss;
  for (const send of [put, post]) expect(((await (await send()).json()) as { size: number }).size).toBe(256 << 20);
  expect(process.memoryUsage().rss - before).toBeLessThan(96 << 20);
  await roomy.stop();
}, 30_000);

describe("reading", () => {
  test("the bytes, never as something that a browser runs", async () => {
    await api.client.raw("PUT", `${files}/page.html`, "<script>");
    const response = await api.client.raw("GET", `${files}/page.html`);
    expect(await response.text()).toBe("<script>");
    expect(
      Object.fromEntries([...response.headers].filter(([name]) => !/^(date|server-timing|x-request-id)$/.test(name))),
    ).toEqual({
      "accept-ranges": "bytes",
      "cache-control": "no-cache",
      "content-disposition": 'attachment; filename="page.html"',
      "content-length": "8",
      "content-security-policy": "sandbox; default-src 'none'",
      "content-type": "application/octet-stream",
      etag: '"e"',
      "last-modified": "Tue, 14 Nov 2023 22:13:20 GMT",
      "x-content-type-options": "nosniff",
    });
  });

  test("HEAD, ranges and ETag", async () => {
    await api.client.raw("PUT", `${files}/ten`, "0123456789");
    const get = (method: string, headers: Record<string, string>) =>
      api.client.raw(method, `${files}/ten`, undefined, headers);
    const head = await get("HEAD", {});
    expect([head.status, head.headers.get("Content-Length"), head.headers.get("ETag"), await head.text()]).toEqual([
      200,
      "10",
      '"e"',
      "",
    ]);
    expect(api.executor.reads.at(-1)).toBe("HEAD ten");
    const part = await get("GET", { Range: "bytes=2-4" });
    expect([
      part.status,
      part.headers.get("Content-Range"),
      part.headers.get("Content-Length"),
      await part.text(),
    ]).toEqual([206, "bytes 2-4/10", "3", "234"]);
    const beyond = await get("GET", { Range: "bytes=99-" });
    expect([beyond.status, beyond.headers.get("Content-Range")]).toEqual([416, "bytes */10"]);
    expect(await beyond.json()).toMatchObject({ code: "range_not_satisfiable" });
    const same = await get("GET", { "If-None-Match": '"e"' });
    expect([same.status, await same.text()]).toEqual([304, ""]);
    expect((await api.client.raw("GET", `${files}/none`)).status).toBe(404);
    expect((await api.client.raw("HEAD", `${files}/none`)).status).toBe(404);
    expect(await (await api.client.raw("GET", `${files}/ten/`)).json()).toMatchObject({ code: "invalid_path" });
    expect((await api.client.get(`${files}/ten?presign=true`)).status).toBe(501);
  });

  test("lists a directory or a file", async () => {
    await api.client.raw("PUT", `${files}/list/one`, "1");
    const { body } = await api.client.get(`${files}?path=list/`);
    expect(body).toEqual({
      session_id: session,
      count: 1,
      files: [
        {
          name: "one",
          container_path: "/workspace/list/one",
          size: 1,
          modified_time: "2023-11-14T22:13:20.000Z",
          etag: '"e"',
          type: "file",
          mode: "0644",
        },
      ],
    });
    expect((await api.client.get(`${files}?limit=0`)).body["count"]).toBe(1);
    for (const [query, status] of [
      ["path=../x", 400],
      ["path=/x", 400],
      ["path=none", 404],
      ["recursive=perhaps", 422],
      ["limit=x", 422],
    ] as const)
      expect([query, (await api.client.get(`${files}?${query}`)).status]).toEqual([query, status]);
  });

  test("moves, makes and deletes", async () => {
    await api.client.raw("PUT", `${files}/from`, "x");
    expect((await api.client.post(`${files}/move`, { from: "from", to: "to" })).status).toBe(200);
    expect(text("to")).toBe("x");
    for (const body of [
      { from: "../a", to: "b" },
      { from: "a", to: "/b" },
    ])
      expect((await api.client.post(`${files}/move`, body)).status).toBe(400);
    expect((await api.client.post(`${files}/move`, { from: "a" })).status).toBe(422);
    expect((await api.client.post(`${files}/mkdir`, { path: "d/e" })).status).toBe(200);
    expect((await api.client.post(`${files}/mkdir`, { path: ".." })).status).toBe(400);
    expect((await api.client.raw("DELETE", `${files}/to`)).status).toBe(204);
    expect((await api.client.raw("DELETE", `${files}/to`)).status).toBe(404);
  });

  test("a session that ends while its files are used is 404 or 409, and no executor that can't be reached", async () => {
    const own = await startApi();
    for (const [end, status, code] of [
      ["DELETE", 404, "session_not_found"],
      ["terminate", 409, "session_ended"],
    ] as const) {
      const id = await own.client.session();
      const losing = async (): Promise<never> => {
        if (end === "DELETE") await own.client.raw("DELETE", `/sessions/${id}`);
        else await own.client.post(`/sessions/${id}/terminate`);
        throw new AppError("executor_unavailable", "the executor can't be reached", { retryAfterS: 1 });
      };
      own.executor.writeFile = losing;
      const answer = await own.client.raw("PUT", `/sessions/${id}/files/f`, "x");
      expect([answer.status, ((await answer.json()) as { code: string }).code]).toEqual([status, code]);
    }
    await own.stop();
  });
});
