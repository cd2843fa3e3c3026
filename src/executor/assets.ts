import init from "../../dist/sandbox-init" with { type: "file" };
import forking from "./languages/forking.py" with { type: "file" };
import handler from "./languages/handler.py" with { type: "file" };
import importing from "./languages/importing.py" with { type: "file" };
import jsontext from "./languages/jsontext.py" with { type: "file" };
import mainSource from "./languages/main_source.py" with { type: "file" };
import preloading from "./languages/preloading.py" with { type: "file" };
import program from "./languages/program.py" with { type: "file" };
import runner from "./languages/runner.js" with { type: "file" };
import warm from "./languages/warm.py" with { type: "file" };
import zygote from "./languages/zygote.py" with { type: "file" };

/** The files that the executable carries, by their names in a sandbox's `/.sandbox`. `path` is for Bun.file. */
export const ASSETS: readonly { name: string; path: string; mode: number }[] = [
  { name: "init", path: init, mode: 0o755 },
  { name: "zygote.py", path: zygote, mode: 0o644 },
  { name: "forking.py", path: forking, mode: 0o644 },
  { name: "handler.py", path: handler, mode: 0o644 },
  { name: "preloading.py", path: preloading, mode: 0o644 },
  { name: "program.py", path: program, mode: 0o644 },
  { name: "importing.py", path: importing, mode: 0o644 },
  { name: "jsontext.py", path: jsontext, mode: 0o644 },
  { name: "main_source.py", path: mainSource, mode: 0o644 },
  { name: "warm.py", path: warm, mode: 0o644 },
  { name: "runner.js", path: runner, mode: 0o644 },
];
