import { mkdtempSync, rmSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { dirname, join } from "node:path";

/** A package index of this test (PEP 503) on loopback, with wheels and source archives that are made by hand. */
export class LocalIndex {
  readonly #files = new Map<string, Uint8Array>();
  readonly #server: Bun.Server<undefined>;
  /** Paths that were asked for. */
  readonly asked: string[] = [];
  /** Answers of files wait for this. */
  gate: Promise<void> = Promise.resolve();

  constructor(hostname = "127.0.0.1") {
    this.#server = Bun.serve({ hostname, port: 0, fetch: (request) => this.#answer(request) });
  }

  get url(): string {
    return `http://${this.#server.hostname}:${this.#server.port}/simple`;
  }

  async close(): Promise<void> {
    await this.#server.stop(true);
  }

  async wheel(name: string, version: string, source: string, requires: string[] = []): Promise<void> {
    const info = `${name}-${version}.dist-info`;
    const metadata = [
      "Metadata-Version: 2.1",
      `Name: ${name}`,
      `Version: ${version}`,
      ...requires.map((one) => `Requires-Dist: ${one}`),
    ];
    const files = {
      [`${name}.py`]: source,
      [`${info}/METADATA`]: `${metadata.join("\n")}\n`,
      [`${info}/WHEEL`]: "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
      [`${info}/RECORD`]: "",
      [`${info}/entry_points.txt`]: `[console_scripts]\n${name}-say = ${name}:say\n`,
    };
    this.#files.set(`${name}-${version}-py3-none-any.whl`, await archive(files, "zip"));
  }

  /** A source archive that builds itself: its backend is in it and `setup` is what that runs first. */
  async source(name: string, version: string, setup = ""): Promise<void> {
    const backend = `
import os, zipfile
def build_wheel(directory, config_settings=None, metadata_directory=None):
    ${setup || "pass"}
    file = "${name}-${version}-py3-none-any.whl"
    info = "${name}-${version}.dist-info"
    with zipfile.ZipFile(os.path.join(directory, file), "w") as wheel:
        wheel.writestr("${name}.py", "ORIGIN = 'source'\\n")
        wheel.writestr(info + "/METADATA", "Metadata-Version: 2.1\\nName: ${name}\\nVersion: ${version}\\n")
        wheel.writestr(info + "/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(info + "/RECORD", "")
    return file
`;
    const top = `${name}-${version}`;
    const files = {
      [`${top}/pyproject.toml`]: '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n',
      [`${top}/backend.py`]: backend,
      [`${top}/PKG-INFO`]: `Metadata-Version: 2.1\nName: ${name}\nVersion: ${version}\n`,
    };
    this.#files.set(`${name}-${version}.tar.gz`, await archive(files, "gztar"));
  }

  async #answer(request: Request): Promise<Response> {
    const { pathname } = new URL(request.url);
    this.asked.push(pathname);
    const file = this.#files.get(pathname.replace("/files/", ""));
    if (file !== undefined) {
      await this.gate;
      return new Response(file);
    }
    const name = /^\/simple\/([^/]+)\/$/.exec(pathname)?.[1];
    const found = [...this.#files.keys()].filter((one) => one.startsWith(`${name}-`));
    if (name === undefined || found.length === 0) return new Response("not here", { status: 404 });
    const links = found.map((one) => `<a href="/files/${one}">${one}</a>`).join("\n");
    return new Response(`<!DOCTYPE html><html><body>${links}</body></html>`, {
      headers: { "Content-Type": "text/html" },
    });
  }
}

async function archive(files: Record<string, string>, format: "zip" | "gztar"): Promise<Uint8Array> {
  const dir = mkdtempSync("/tmp/sandbox-index-");
  try {
    for (const [path, text] of Object.entries(files)) {
      await mkdir(dirname(join(dir, "in", path)), { recursive: true });
      await Bun.write(join(dir, "in", path), text);
    }
    const top = format === "zip" ? [] : [Object.keys(files)[0]?.split("/")[0] ?? ""];
    const code = "import shutil, sys; print(shutil.make_archive(*sys.argv[1:]), end='')";
    const run = Bun.spawnSync(["/usr/bin/python3", "-c", code, join(dir, "out"), format, join(dir, "in"), ...top]);
    return await Bun.file(run.stdout.toString()).bytes();
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}
