import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readdirSync } from "node:fs";
import type { LayerRequest } from "../../src/executor/protocol.ts";
import { SPEC, TestExecutor } from "./fixture.ts";
import { LocalIndex } from "./local-index.ts";

let executor: TestExecutor;
let index: LocalIndex;

beforeAll(async () => {
  index = new LocalIndex();
  await index.wheel("alpha", "1.0", "VALUE = 'one'\ndef say(): print('said')\n");
  await index.wheel("alpha", "2.0", "VALUE = 'two'\ndef say(): print('said two')\n", ["beta"]);
  await index.wheel("beta", "0.5", "VALUE = 'beta'\n");
  await index.source("gamma", "3.1");
  await index.source("spy", "1.0", "import socket; socket.create_connection(('127.0.0.1', 1), 1)");
  await index.source("slow", "1.0", "import time; time.sleep(60)");
  executor = await TestExecutor.start({ packageIndexUrl: index.url });
});
afterAll(async () => {
  await executor.close();
  await index.close();
});

function ensure(requirements: string[], fields: Partial<LayerRequest> = {}) {
  const request = { requirements, indexUrl: null, imageUrl: SPEC.imageUrl, timeoutMs: 60_000, ...fields };
  return executor.client.ensureLayer(request);
}

describe("a layer", () => {
  test("holds what was really installed, and is importable in the very next execution", async () => {
    const layer = await ensure(["alpha"]);
    expect(layer.packages).toEqual([
      { name: "alpha", version: "2.0" },
      { name: "beta", version: "0.5" },
    ]);
    const sandbox = await executor.sandbox();
    const code = "import alpha, beta\ndef handler(event): return [alpha.VALUE, beta.VALUE, alpha.__file__]";
    expect((await executor.run(sandbox, code)).outcome.status).toBe("failed");
    await executor.client.setLayers(sandbox, [layer.name]);
    expect((await executor.run(sandbox, code)).returned).toEqual(["two", "beta", `${layer.path}/alpha.py`]);
    expect((await executor.shell(sandbox, "alpha-say && python3 -c 'import beta; print(beta.VALUE)'")).stdout).toBe(
      "said two\nbeta\n",
    );
  });

  test("is there from the start in a sandbox that was made with it", async () => {
    const { name } = await ensure(["alpha==1.0"]);
    const sandbox = await executor.sandbox({ layers: [name] });
    const ran = await executor.run(sandbox, "import alpha\ndef handler(event): return alpha.VALUE");
    expect(ran.returned).toBe("one");
  });

  test("is built from a source archive too", async () => {
    const { name, packages } = await ensure(["gamma>=3,<4"]);
    expect(packages).toEqual([{ name: "gamma", version: "3.1" }]);
    const sandbox = await executor.sandbox({ layers: [name] });
    expect((await executor.run(sandbox, "import gamma\nprint(gamma.ORIGIN)")).stdout).toBe("source\n");
  });

  test("is one for the same set, in any order, and built once", async () => {
    const before = index.asked.filter((path) => path.includes("beta-0.5")).length;
    const [first, second, third] = await Promise.all([
      ensure(["beta", "gamma"]),
      ensure(["gamma", "beta"]),
      ensure(["beta", "gamma", "beta"]),
    ]);
    expect(second.name).toBe(first.name);
    expect(third.name).toBe(first.name);
    const startedMs = performance.now();
    expect((await ensure(["gamma", "beta"])).name).toBe(first.name);
    expect(performance.now() - startedMs).toBeLessThan(100);
    expect(index.asked.filter((path) => path.includes("beta-0.5")).length).toBe(before + 1);
  });

  test("can't be listed or written by a sandbox", async () => {
    const layer = await ensure(["beta"]);
    const sandbox = await executor.sandbox({ layers: [layer.name] });
    const ran = await executor.shell(sandbox, `touch ${layer.path}/x; echo 1 >> ${layer.path}/beta.py; ls /.layers`);
    expect(ran.stderr).toContain("Read-only");
    expect(ran.stderr).toContain("ls: cannot open directory '/.layers'");
  });
});

describe("the bytes of a layer", () => {
  test("make the same layer in another executor, which asks no index", async () => {
    const request = {
      requirements: ["alpha", "gamma"],
      indexUrl: index.url,
      imageUrl: SPEC.imageUrl,
      timeoutMs: 60_000,
    };
    const other = await TestExecutor.start();
    try {
      const built = await executor.client.ensureLayer(request);
      expect(await other.client.findLayer(request)).toBeNull();
      const asked = index.asked.length;
      const put = await other.client.putLayer(request, await executor.client.layerArchive(built.name));
      expect(put.packages).toEqual(built.packages);
      expect(await other.client.findLayer(request)).toEqual(put);
      expect(await other.client.ensureLayer(request)).toEqual(put);
      expect(index.asked.length).toBe(asked);
      const sandbox = await other.sandbox({ layers: [put.name] });
      expect((await other.shell(sandbox, "alpha-say")).stdout).toBe("said two\n");
      expect((await other.run(sandbox, "import gamma\nprint(gamma.ORIGIN)")).stdout).toBe("source\n");
      // Twice is once.
      const again = await other.client.putLayer(request, await executor.client.layerArchive(built.name));
      expect(again.name).toBe(put.name);
      const left = readdirSync(`${other.dataDir}/workspaces`).filter((name) => name.startsWith(".once"));
      expect(left).toEqual([]);
    } finally {
      await other.close();
    }
  });

  test.each([
    ["nothing", ""],
    ["no archive", "[]\n"],
    ["a path that leads out", '[]\n{"entries":[],"directories":[],"links":[{"path":"../x","target":"y"}]}\n'],
    [
      "other bytes than its hashes",
      '[]\n{"entries":[{"path":"a","mode":"0644","size":1,"sha256":"0"}],"directories":[],"links":[]}\nx',
    ],
  ])("are refused when they are %s", async (_, text) => {
    const request = { requirements: ["omega"], indexUrl: index.url, imageUrl: SPEC.imageUrl, timeoutMs: 60_000 };
    const refused = await executor.client.putLayer(request, new Blob([text]).stream()).catch((error: unknown) => error);
    expect(refused).toMatchObject({ code: expect.stringMatching(/^(bad_request|invalid_path)$/) });
    expect(await executor.client.findLayer(request)).toBeNull();
  });
});

describe("a build", () => {
  test("that fails says why and leaves nothing", async () => {
    const layers = readdirSync(`${executor.dataDir}/layers`);
    expect(ensure(["alpha==9.9"])).rejects.toMatchObject({
      code: "dependency_failed",
      message: expect.stringContaining("alpha==9.9"),
    });
    await ensure(["alpha==9.9"]).catch(() => {});
    expect(readdirSync(`${executor.dataDir}/layers`)).toEqual(layers);
    const left = readdirSync(`${executor.dataDir}/workspaces`).filter((name) => name.startsWith(".once"));
    expect(left).toEqual([]);
  });

  test("that takes too long is ended", async () => {
    const startedMs = performance.now();
    const failure = await ensure(["slow"], { timeoutMs: 3000 }).catch((error: unknown) => error);
    expect(failure).toMatchObject({ code: "dependency_failed", message: "the installation took longer than 3 s" });
    expect(performance.now() - startedMs).toBeLessThan(10_000);
  });

  test("reaches nothing but the index", async () => {
    expect(await ensure(["spy"]).catch((error: unknown) => error)).toMatchObject({
      code: "dependency_failed",
      message: expect.stringContaining("Connection refused"),
    });
    const other = new LocalIndex("127.0.0.2");
    await other.wheel("delta", "1.0", "");
    try {
      const failure = await ensure(["delta"], { indexUrl: other.url }).catch((error: unknown) => error);
      expect(failure).toMatchObject({ message: "the package index is at an address that may not be reached" });
      expect(other.asked).toEqual([]);
      const named = other.url.replace("127.0.0.2", "localhost");
      expect(ensure(["delta"], { indexUrl: named })).rejects.toMatchObject({ code: "dependency_failed" });
      await ensure(["delta"], { indexUrl: named }).catch(() => {});
      expect(other.asked).toEqual([]);
    } finally {
      await other.close();
    }
  });

  test.each([
    "--index-url=http://x",
    "-r/etc/passwd",
    "./local",
    "a @ http://x/y.whl",
    "http://x/y.whl",
    "a;b",
    "a\n-e .",
  ])("of %j is refused", (line) => {
    expect(ensure([line])).rejects.toMatchObject({ code: "bad_request" });
  });
});

test("the real index serves a package", async () => {
  const own = await TestExecutor.start();
  try {
    const request = { requirements: ["six"], indexUrl: null, imageUrl: SPEC.imageUrl, timeoutMs: 120_000 };
    const layer = await own.client.ensureLayer(request);
    expect(layer.packages).toEqual([{ name: "six", version: expect.stringMatching(/^1\./) }]);
    const sandbox = await own.sandbox({ layers: [layer.name] });
    expect((await own.run(sandbox, "import six\nprint(six.PY3)")).stdout).toBe("True\n");
  } finally {
    await own.close();
  }
}, 120_000);
