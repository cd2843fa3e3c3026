import init from "../../dist/sandbox-init" with { type: "file" };
import program from "./languages/program.py" with { type: "file" };
import runner from "./languages/runner.js" with { type: "file" };
import zygote from "./languages/zygote.py" with { type: "file" };

/** The files that the executable carries, by their names in a sandbox's `/.sandbox`. `path` is for Bun.file. */
export const ASSETS: readonly { name: string; path: string; mode: number }[] = [
  { name: "init", path: init, mode: 0o755 },
  { name: "zygote.py", path: zygote, mode: 0o644 },
  { name: "program.py", path: program, mode: 0o644 },
  { name: "runner.js", path: runner, mode: 0o644 },
];
