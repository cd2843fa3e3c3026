import { mkdir } from "node:fs/promises";
import { dirname, join } from "node:path";

/** C sources of the static binary `sandbox-init`. */
const SOURCES = [
  ...[
    "main.c",
    "launch.c",
    "stage.c",
    "seccomp.c",
    "loop.c",
    "process.c",
    "child.c",
    "zygote.c",
    "kill.c",
    "frames.c",
    "buffer.c",
  ],
  "relay.c",
];

/**
 * Compiles `sandbox-init` to `outFile` with the C compiler `$CC` or `cc`, linked statically with libseccomp. Throws with the
 * names of the Debian packages when a tool is missing, and with the compiler's words otherwise.
 */
export async function buildInit(outFile: string): Promise<void> {
  const compiler = process.env["CC"] ?? "cc";
  if (Bun.which(compiler) === null) throw new Error("no C compiler: install the packages gcc and libc6-dev");
  await mkdir(dirname(outFile), { recursive: true });
  const flags = ["-std=gnu11", "-static", "-Os", "-flto", "-s", "-Wall", "-Wextra", "-Werror"];
  const sources = SOURCES.map((name) => join(import.meta.dir, name));
  const run = Bun.spawn([compiler, ...flags, "-o", outFile, ...sources, "-lseccomp"], {
    stdout: "ignore",
    stderr: "pipe",
  });
  const said = await new Response(run.stderr).text();
  if ((await run.exited) === 0) return;
  if (said.includes("seccomp")) throw new Error(`libseccomp is missing: install the package libseccomp-dev\n${said}`);
  throw new Error(said);
}
