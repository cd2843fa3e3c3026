import { mkdtemp, readdir, readFile } from "node:fs/promises";
import { EXECUTABLE } from "../e2e/server.ts";

/** How a command ended. `lines` are those of stderr. */
export type Ended = { code: number; stdout: string; stderr: string; lines: string[]; pid: number };

export type CommandOptions = {
  env?: Record<string, string>;
  cwd?: string;
  stdin?: string;
  executable?: string;
  /** A command that ends in executing the one that follows it. */
  wrapper?: string[];
};

/** Nothing of the host's configuration leaks in. */
function environment(env: Record<string, string> = {}): Record<string, string> {
  return { PATH: process.env.PATH ?? "/usr/bin:/bin", HOME: process.env.HOME ?? "/root", ...env };
}

/** A command that runs. Its output is collected unless it was started by `startUnread`. */
export type Running = {
  pid: number;
  kill(signal: NodeJS.Signals): void;
  /** Resolves when it has written to stdout. */
  wroteSomething: Promise<void>;
  ended: Promise<Ended>;
};

/** Starts the compiled executable; who calls reads its output, or does not. */
export function startUnread(args: string[], options: CommandOptions = {}) {
  return Bun.spawn([...(options.wrapper ?? []), options.executable ?? EXECUTABLE, ...args], {
    env: environment(options.env),
    cwd: options.cwd ?? "/tmp",
    stdin: options.stdin === undefined ? "ignore" : new Blob([options.stdin]),
    stdout: "pipe",
    stderr: "pipe",
  });
}

/** Starts the compiled executable. */
export function start(args: string[], options: CommandOptions = {}): Running {
  const child = startUnread(args, options);
  const wrote = Promise.withResolvers<void>();
  const collect = async (): Promise<string> => {
    let text = "";
    for await (const piece of child.stdout.pipeThrough(new TextDecoderStream())) {
      text += piece;
      wrote.resolve();
    }
    return text;
  };
  const ended = Promise.all([collect(), new Response(child.stderr).text(), child.exited]).then(
    ([stdout, stderr, code]) => {
      const lines = stderr.split("\n").filter((line) => line !== "");
      return { code, stdout, stderr, lines, pid: child.pid };
    },
  );
  return { pid: child.pid, kill: (signal) => child.kill(signal), wroteSomething: wrote.promise, ended };
}

/** Runs it to its end. */
export function command(args: string[], options: CommandOptions = {}): Promise<Ended> {
  return start(args, options).ended;
}

/** A new directory with these files. */
export async function directoryOf(files: Record<string, string>): Promise<string> {
  const dir = await mkdtemp("/tmp/sandbox-cli-");
  for (const [name, text] of Object.entries(files)) await Bun.write(`${dir}/${name}`, text);
  return dir;
}

/** What a `sandbox run` with this pid left on the machine: directories, and processes that were started for them. */
export async function leftBy(pid: number): Promise<string[]> {
  const mark = `sandbox-run-${pid}-`;
  const directories = (await readdir("/tmp")).filter((name) => name.startsWith(mark));
  const processes: string[] = [];
  for (const name of await readdir("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    const line = await readFile(`/proc/${name}/cmdline`, "utf8").catch(() => "");
    if (line.includes(mark)) processes.push(line.replaceAll("\0", " "));
  }
  return [...directories, ...processes];
}
