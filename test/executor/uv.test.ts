import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync, globSync, readdirSync } from "node:fs";
import { cp, mkdir, mkdtemp, rm, symlink } from "node:fs/promises";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { importImage } from "../../src/executor/images.ts";
import { TestExecutor } from "./fixture.ts";
import { LocalIndex } from "./local-index.ts";

const CACHE = join(process.env.XDG_CACHE_HOME ?? join(homedir(), ".cache"), "sandbox-tests");
const UV = globSync(join(CACHE, "uv-*/bin/uv")).at(-1);
const LIBRARY = "/usr/lib/python3.11";
const missing =
  UV === undefined
    ? "uv is not there: bash .ci/setup --tests"
    : existsSync(LIBRARY)
      ? null
      : `there is no ${LIBRARY} to make an image of`;

const IMAGE = "with-uv:1";

/** A root file system of this machine's Python without pip, and uv where an image has it. */
async function importImageWithUv(dataDir: string): Promise<void> {
  const dir = await mkdtemp("/tmp/sandbox-uv-");
  try {
    const root = join(dir, "root");
    await mkdir(join(root, "usr/lib"), { recursive: true });
    for (const name of ["bin", "lib", "lib64"]) await symlink(`usr/${name}`, join(root, name));
    const objects = ["/usr/bin/python3.11", UV ?? "", ...globSync(`${LIBRARY}/lib-dynload/*.so`)];
    const said = await new Response(Bun.spawn(["ldd", ...objects], { stdout: "pipe" }).stdout).text();
    const libraries = new Set([...said.matchAll(/(\/\S+) \(0x/g)].map(([, path = ""]) => path));
    const place = (path: string): string => join(root, path.startsWith("/usr/") ? path : `/usr${path}`);
    for (const path of ["/usr/bin/python3.11", ...libraries]) {
      await mkdir(dirname(place(path)), { recursive: true });
      await cp(path, place(path), { dereference: true });
    }
    await symlink("python3.11", join(root, "usr/bin/python3"));
    const isWanted = (path: string): boolean => !/\/(test|__pycache__|config-[^/]*|dist-packages)$/.test(path);
    await cp(LIBRARY, join(root, LIBRARY), { recursive: true, dereference: true, filter: isWanted });
    await mkdir(join(root, "usr/local/bin"), { recursive: true });
    await cp(UV ?? "", join(root, "usr/local/bin/uv"));
    const tar = Bun.spawn(["tar", "-cf", join(dir, "root.tar"), "-C", root, "."], { stderr: "inherit" });
    expect(await tar.exited).toBe(0);
    await importImage(dataDir, IMAGE, join(dir, "root.tar"));
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

describe.skipIf(missing !== null)(missing ?? "an image with uv", () => {
  let executor: TestExecutor;
  let index: LocalIndex;
  beforeAll(async () => {
    index = new LocalIndex();
    await index.wheel("alpha", "1.0", "VALUE = 'one'\n");
    await index.wheel("alpha", "2.0", "VALUE = 'two'\ndef say(): print('said two')\n", ["beta"]);
    await index.wheel("beta", "0.5", "VALUE = 'beta'\n");
    await index.source("gamma", "3.1");
    executor = await TestExecutor.start({ packageIndexUrl: index.url });
    await importImageWithUv(executor.dataDir);
  }, 60_000);
  afterAll(async () => {
    await executor.close();
    await index.close();
  });

  const ensure = (requirements: string[], timeoutMs = 60_000) =>
    executor.client.ensureLayer({ requirements, indexUrl: null, imageUrl: IMAGE, timeoutMs });

  test("has its packages installed by it, with what they need, wheels and source archives", async () => {
    const layer = await ensure(["alpha>=1", "gamma"]);
    expect(layer.packages).toEqual([
      { name: "alpha", version: "2.0" },
      { name: "beta", version: "0.5" },
      { name: "gamma", version: "3.1" },
    ]);
    const sandbox = await executor.sandbox({ imageUrl: IMAGE, layers: [layer.name] });
    const look = `
import alpha, beta, gamma, importlib.metadata, importlib.util, os
def handler(event):
    installer = importlib.metadata.distribution("alpha").read_text("INSTALLER")
    return [alpha.VALUE, beta.VALUE, gamma.ORIGIN, installer, os.path.exists(alpha.__cached__), importlib.util.find_spec("pip")]`;
    expect((await executor.run(sandbox, look)).returned).toEqual(["two", "beta", "source", "uv", true, null]);
    const script = "import subprocess\nprint(subprocess.run(['alpha-say'], capture_output=True, text=True).stdout)";
    expect((await executor.run(sandbox, script)).stdout).toBe("said two\n\n");
  });

  test("a set that can't be installed fails in its words and leaves nothing", async () => {
    const layers = readdirSync(`${executor.dataDir}/layers`);
    const failure = await ensure(["alpha==9.9"]).catch((error: unknown) => error);
    const message = expect.stringMatching(/No solution found[^]*alpha==9\.9/);
    expect(failure).toMatchObject({ code: "dependency_failed", message });
    expect(readdirSync(`${executor.dataDir}/layers`)).toEqual(layers);
    expect(readdirSync(`${executor.dataDir}/workspaces`)).toEqual(
      expect.not.arrayContaining([expect.stringMatching(/^\.once/)]),
    );
  });

  test("nothing but the index is reached, and no option is taken from a requirement", async () => {
    const other = new LocalIndex("127.0.0.2");
    await other.wheel("delta", "1.0", "");
    try {
      expect(await ensure(["delta"]).catch((error: unknown) => error)).toMatchObject({ code: "dependency_failed" });
      expect(await ensure([`--index-url=${other.url}`]).catch((error: unknown) => error)).toMatchObject({
        code: "bad_request",
      });
      expect(other.asked).toEqual([]);
    } finally {
      await other.close();
    }
  });
});
