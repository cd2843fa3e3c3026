import { beforeAll, describe, expect, test } from "bun:test";
import { conformanceTarget } from "./target.ts";

const client = conformanceTarget();
let session = "";
let files = "";
beforeAll(async () => {
  session = await client().session();
  files = `/sessions/${session}/files`;
});

async function read(path: string, headers: Record<string, string> = {}): Promise<Response> {
  return client().raw("GET", `${files}/${path}`, undefined, headers);
}

describe("bytes in and out", () => {
  test("PUT creates (201), replaces (200), and GET gives the bytes with length and ETag", async () => {
    const bytes = crypto.getRandomValues(new Uint8Array(50_000));
    const created = await client().raw("PUT", `${files}/deep/er/a.bin`, bytes);
    expect(created.status).toBe(201);
    expect(await created.json()).toMatchObject({ session_id: session, file_path: "deep/er/a.bin", size: 50_000 });
    expect((await client().raw("PUT", `${files}/deep/er/a.bin`, bytes)).status).toBe(200);
    const got = await read("deep/er/a.bin");
    expect(got.headers.get("Content-Length")).toBe("50000");
    expect(got.headers.get("ETag")).toMatch(/^"/);
    expect(got.headers.get("Content-Disposition")).toContain("a.bin");
    expect(new Uint8Array(await got.arrayBuffer())).toEqual(bytes);
  });

  test("multipart upload", async () => {
    const form = new FormData();
    form.append("file", new File(["a,b\n1,2\n"], "table.csv"));
    const answer = await client().raw("POST", `${files}/upload?path=data/table.csv`, form);
    expect(answer.status).toBe(200);
    expect(await answer.json()).toEqual({ session_id: session, file_path: "data/table.csv", size: 8 });
    expect((await client().run(session, "print(open('data/table.csv').read())"))["stdout"]).toBe("a,b\n1,2\n\n");
  });

  test("what a program writes is there at once, and a program sees what was uploaded", async () => {
    await client().run(session, "open('out.txt','w').write('from inside')");
    expect(await (await read("out.txt")).text()).toBe("from inside");
  });

  test("names of any kind come back as they are", async () => {
    for (const name of ["sp ace.txt", "ünïcødé-文.txt", "per%cent.txt", 'quo"te.txt', "a+b&c.txt"]) {
      const path = encodeURIComponent(name);
      expect((await client().raw("PUT", `${files}/${path}`, "x")).status).toBe(201);
      const got = await read(path);
      expect(got.status).toBe(200);
      expect(got.headers.get("Content-Disposition")).toContain("filename");
      const listed = await client().get(`${files}?path=${path}`);
      expect(listed.body["files"][0].name).toBe(name);
    }
  });

  test("ranges: 206 and 416", async () => {
    await client().raw("PUT", `${files}/digits`, "0123456789");
    const part = await read("digits", { Range: "bytes=2-4" });
    expect(part.status).toBe(206);
    expect(part.headers.get("Content-Range")).toBe("bytes 2-4/10");
    expect(await part.text()).toBe("234");
    expect(await (await read("digits", { Range: "bytes=-3" })).text()).toBe("789");
    for (const Range of ["bytes=20-", "bytes=20-5", "BYTES=20-30", "bytes = 20-30", "bytes=-0"]) {
      const beyond = await read("digits", { Range });
      expect([Range, beyond.status, beyond.headers.get("Content-Range")]).toEqual([Range, 416, "bytes */10"]);
      expect(((await beyond.json()) as { code: string }).code).toBe("range_not_satisfiable");
    }
  });

  test("HEAD, DELETE, move, mkdir", async () => {
    await client().raw("PUT", `${files}/m/one`, "12345");
    const head = await client().raw("HEAD", `${files}/m/one`);
    expect(head.status).toBe(200);
    expect(head.headers.get("Content-Length")).toBe("5");
    expect((await client().raw("HEAD", `${files}/m/none`)).status).toBe(404);
    expect([200, 204]).toContain(
      (
        await client().raw("POST", `${files}/mkdir`, JSON.stringify({ path: "n/e/w" }), {
          "Content-Type": "application/json",
        })
      ).status,
    );
    expect([200, 204]).toContain(
      (
        await client().raw("POST", `${files}/move`, JSON.stringify({ from: "m/one", to: "n/two" }), {
          "Content-Type": "application/json",
        })
      ).status,
    );
    expect((await read("m/one")).status).toBe(404);
    expect(await (await read("n/two")).text()).toBe("12345");
    expect([200, 204]).toContain((await client().raw("DELETE", `${files}/n`)).status);
    expect((await read("n/two")).status).toBe(404);
  });
});

describe("listing", () => {
  test("by directory, not by prefix; recursive or not; limited", async () => {
    for (const path of ["list/a.txt", "list/sub/b.txt", "listed.txt"])
      await client().raw("PUT", `${files}/${path}`, "x");
    const all = (await client().get(`${files}?path=list`)).body;
    expect(all["count"]).toBe(all["files"].length);
    const paths = all["files"]
      .filter((f: { type: string }) => f.type === "file")
      .map((f: { container_path: string }) => f.container_path);
    expect(paths.toSorted()).toEqual(["/workspace/list/a.txt", "/workspace/list/sub/b.txt"]);
    const flat = (await client().get(`${files}?path=list&recursive=false`)).body["files"].map(
      (f: { name: string }) => f.name,
    );
    expect(flat.toSorted()).toEqual(["a.txt", "sub"]);
    expect((await client().get(`${files}?path=list&limit=1`)).body["count"]).toBe(1);
    expect((await client().get(`${files}?path=nowhere`)).status).toBe(404);
  });
});

describe("refusals", () => {
  for (const path of ["%2Fetc%2Fpasswd", "..%2Fx", "a%2F..%2F..%2Fx", "nul%00byte", "a%2F%2E%2E%2F%2E%2E%2Fb"])
    test(`${path}: 400`, async () => {
      expect((await read(path)).status).toBe(400);
      expect((await client().raw("PUT", `${files}/${path}`, "x")).status).toBe(400);
    });

  test("a link out of the workspace is 400, one inside works", async () => {
    await client().run(
      session,
      "ln -s /etc etc; ln -s /etc/passwd pw; mkdir -p real; echo in > real/f; ln -s real inner",
      { language: "shell" },
    );
    expect((await read("etc/passwd")).status).toBe(400);
    expect((await read("pw")).status).toBe(400);
    expect((await client().raw("PUT", `${files}/etc/new`, "x")).status).toBe(400);
    expect(await (await read("inner/f")).text()).toBe("in\n");
  });

  test("more than the limit of a file: 413 and nothing stays", async () => {
    const chunk = new Uint8Array(1024 * 1024);
    let sent = 0;
    const body = new ReadableStream<Uint8Array>({
      pull(controller) {
        if (sent++ < 101) controller.enqueue(chunk);
        else controller.close();
      },
    });
    const big = await client().session();
    const answer = await fetch(`${client().base}/sessions/${big}/files/big`, {
      method: "PUT",
      body,
      headers: client().headers,
    });
    expect(answer.status).toBe(413);
    expect((await client().raw("GET", `/sessions/${big}/files/big`)).status).toBe(404);
    await client().raw("DELETE", `/sessions/${big}`);
  }, 30_000);

  test("more than the session's disk: 507 and the partial file is gone", async () => {
    const small = await client().session({ disk: "8Mi" });
    const answer = await client().raw("PUT", `/sessions/${small}/files/big`, new Uint8Array(20 * 1024 * 1024));
    expect(answer.status).toBe(507);
    expect((await client().get(`/sessions/${small}/files`)).body["count"]).toBe(0);
    await client().raw("DELETE", `/sessions/${small}`);
  });

  test("an ended session: its files can be read, and not be changed any more", async () => {
    const ended = await client().session();
    const files = `/sessions/${ended}/files`;
    expect((await client().raw("PUT", `${files}/kept.txt`, "kept")).status).toBe(201);
    await client().post(`/sessions/${ended}/terminate`);
    expect(await (await client().raw("GET", `${files}/kept.txt`)).text()).toBe("kept");
    const form = new FormData();
    form.append("file", new Blob(["x"]), "x.txt");
    const answers = [
      await client().call("PUT", `${files}/kept.txt`, undefined),
      await client().call("DELETE", `${files}/kept.txt`),
      await client().post(`${files}/move`, { from: "kept.txt", to: "moved.txt" }),
      await client().post(`${files}/mkdir`, { path: "made" }),
    ];
    for (const { status, body } of answers) expect([status, body["code"]]).toEqual([409, "session_ended"]);
    expect((await client().raw("POST", `${files}/upload`, form)).status).toBe(409);
    expect((await client().get(files)).body["count"]).toBe(1);
    await client().raw("DELETE", `/sessions/${ended}`);
  });

  test("an unknown session: 404", async () => {
    expect((await client().get("/sessions/nope/files")).status).toBe(404);
  });
});
