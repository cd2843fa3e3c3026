import { basename } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { AppError } from "../errors.ts";
import { startEmbedded } from "./embedded-service.ts";
import { RunClient } from "./run-client.ts";
import { languageOf, parseRunOptions, RUN_HELP, UsageError, type RunOptions } from "./run-options.ts";

/** One line of an event stream. */
export type StreamEvent = { seq: number; type: string; data: Record<string, unknown> };

export type ExecutionView = {
  id: string;
  status: string;
  exit_code: number | null;
  reason: string | null;
  error_message: string | null;
};

type Service = { url: string; key: string | undefined; stop(): Promise<void> };

/** Cut streams in a row, without an event in between, before the run is given up. */
const MAX_CUTS = 20;
const RECONNECT_MS = 250;

/** `sandbox run`: exits with the program's exit code. Throws UsageError, ConfigError and AppError. */
export async function runCommand(argv: string[]): Promise<number> {
  if (argv.includes("--help") || argv.length === 0) {
    process.stdout.write(RUN_HELP);
    return argv.length === 0 ? 2 : 0;
  }
  const options = parseRunOptions(argv);
  const code = await programOf(options.file);
  const service = await serviceFor(options);
  try {
    return await runOn(new RunClient(service.url, service.key), options, code);
  } finally {
    await service.stop();
  }
}

async function programOf(file: string): Promise<string> {
  const source = file === "-" ? Bun.stdin : Bun.file(file);
  if (file !== "-" && !(await Bun.file(file).exists())) throw new UsageError(`${file} is not there`);
  const code = await source.text();
  if (code === "") throw new UsageError(`${file} is empty`);
  return code;
}

/** The service that was named, or one of this process's own. */
async function serviceFor(options: RunOptions): Promise<Service> {
  if (options.server === null) return { ...(await startEmbedded()), key: undefined };
  return { url: options.server, key: process.env["SANDBOX_API_KEY"], stop: () => Promise.resolve() };
}

async function runOn(client: RunClient, options: RunOptions, code: string): Promise<number> {
  const language = options.language ?? languageOf(options.file, code);
  const session = options.session ?? (await newSession(client, options, language));
  try {
    for (const file of options.uploads) await client.upload(session, basename(file), existing(file));
    const execution = await client.json<ExecutionView>("POST", `/sessions/${session}/executions`, {
      code,
      language,
      timeout: options.timeoutS,
      event: options.event,
      env_vars: options.env,
      stdin: options.stdin ? await Bun.stdin.text() : "",
    });
    const exitCode = await follow(client, execution.id);
    for (const path of options.downloads) await Bun.write(basename(path), await client.download(session, path));
    return exitCode;
  } finally {
    if (options.session === null && options.keep) process.stderr.write(`session ${session} is kept\n`);
    else if (options.session === null) await client.json("DELETE", `/sessions/${session}`);
  }
}

function existing(file: string): Bun.BunFile {
  const found = Bun.file(file);
  if (found.size === 0 && found.lastModified === 0) throw new UsageError(`${file} is not there`);
  return found;
}

async function newSession(client: RunClient, options: RunOptions, language: string): Promise<string> {
  const template = options.template ?? (language.endsWith("script") ? "nodejs-basic" : "python-basic");
  const path = "/sessions?wait=60";
  const session = await client.json<{ id: string; status: string; error_message: string | null }>("POST", path, {
    template_id: template,
  });
  if (session.status !== "running")
    throw new AppError("executor_unavailable", `the session did not start: ${session.error_message ?? session.status}`);
  return session.id;
}

/** Shows the output as it comes, whatever cuts the stream, and tells the exit code. The first Ctrl-C cancels. */
async function follow(client: RunClient, id: string): Promise<number> {
  let interrupts = 0;
  const interrupt = (): void => {
    if (++interrupts > 1) process.exit(130);
    client.cancel(id).catch(() => process.exit(130));
  };
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, interrupt);
  let seq = 0;
  for (let cuts = 0; cuts < MAX_CUTS; cuts++) {
    try {
      for await (const event of client.events(id, seq)) {
        seq = event.seq;
        cuts = 0;
        if (event.type === "stdout" || event.type === "stderr") await show(event);
        if (event.type === "end") return tell(event.data as ExecutionView);
      }
    } catch (error) {
      if (error instanceof AppError && error.status < 500) throw error;
    }
    await delay(RECONNECT_MS);
  }
  throw new AppError("executor_unavailable", `the stream of execution ${id} was lost`);
}

function show(event: StreamEvent): Promise<void> {
  const bytes = Uint8Array.fromBase64(String(event.data["data"]));
  const out = event.type === "stdout" ? process.stdout : process.stderr;
  return new Promise((resolve) => void out.write(bytes, () => resolve()));
}

/** The exit code; what a limit or a loss did goes to standard error, the program's own traceback is there already. */
function tell({ status, exit_code, reason, error_message }: ExecutionView): number {
  const isOwn = status === "completed" || reason === "exit_code" || reason === "exception";
  if (!isOwn) process.stderr.write(`sandbox: ${error_message ?? status}\n`);
  if (status === "crashed") return 125;
  if (status === "cancelled") return 130;
  return exit_code ?? 1;
}
