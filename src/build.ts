/** `bun run build`: makes dist/sandbox-init and, with it embedded, the executable dist/sandbox. */
import { join } from "node:path";
import { buildInit } from "./executor/init/build.ts";

const root = join(import.meta.dir, "..");

/** Of the source: as BUILD_COMMIT says, else as git does where there is one. */
async function commit(): Promise<string> {
  const given = process.env["BUILD_COMMIT"];
  if (given !== undefined || Bun.which("git") === null) return given ?? "";
  const describe = ["git", "describe", "--always", "--dirty", "--exclude=*"];
  const run = Bun.spawn(describe, { cwd: root, stdout: "pipe", stderr: "ignore" });
  const text = await new Response(run.stdout).text();
  return (await run.exited) === 0 ? text.trim() : "";
}

await buildInit(join(root, "dist/sandbox-init"));
const built = await Bun.build({
  entrypoints: [join(root, "src/main.ts")],
  compile: { outfile: join(root, "dist/sandbox") },
  target: "bun",
  format: "esm",
  minify: true,
  bytecode: true,
  // A command loads its own part alone, which is less than half of the memory and of the time to start.
  splitting: true,
  define: { BUILD_COMMIT: JSON.stringify(await commit()) },
});
for (const { message } of built.logs) console.error(message);
if (!built.success) process.exit(1);
console.log(`dist/sandbox: ${Math.round(Bun.file(join(root, "dist/sandbox")).size / 1e6)} MB`);
