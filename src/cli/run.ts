import { statSync } from "node:fs";
import { basename } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { ConfigError } from "../config.ts";
import { AppError } from "../errors.ts";
import { newSessionId } from "../id.ts";
import { withMember } from "../json-text.ts";
import { startEmbedded } from "./embedded-service.ts";
import { Interruption } from "./interruption.ts";
import { RunClient, type ExecutionView, type SessionView } from "./run-client.ts";
import { EXIT, follow } from "./run-follow.ts";
import { languageOf, parseRunOptions, RUN_HELP, type RunOptions } from "./run-options.ts";
import { RunOutput } from "./run-output.ts";
import { UsageError } from "./usage-error.ts";

/** What is to run, read in full before anything is started for it. */
type Program = { code: string; language: string; stdin: string; uploads: Bun.BunFile[] };

/** One run: what of whom, where what comes of it is shown, and the wish that it ends. */
type Run = { client: RunClient; options: RunOptions; program: Program; output: RunOutput; stop: AbortSignal };

type Service = { url: string; key: string | undefined; stop(): Promise<void>; abandon(): void };

const STARTING_CHECK_MS = 500;

/** `sandbox run`: exits with the program's exit code, or one of EXIT. Throws UsageError and ConfigError. */
export async function runCommand(argv: string[]): Promise<number> {
  if (argv.includes("--help") || argv.length === 0) {
    process.stdout.write(RUN_HELP);
    return argv.length === 0 ? 2 : 0;
  }
  const options = parseRunOptions(argv, process.env);
  const program = await readProgram(options);
  const interruption = new Interruption();
  const stopping = new AbortController();
  const output = new RunOutput(() => stopping.abort());
  const stop = AbortSignal.any([interruption.signal, stopping.signal]);
  interruption.signal.addEventListener("abort", () => void output.say("cancelling; Ctrl-C again leaves at once"));
  try {
    const service = await serviceFor(options);
    interruption.leaveBehind = () => service.abandon();
    try {
      return await runOn({ client: new RunClient(service.url, service.key), options, program, output, stop });
    } finally {
      await service.stop();
    }
  } catch (error) {
    if (stop.aborted) return output.isBroken ? EXIT.brokenPipe : EXIT.cancelled;
    if (error instanceof ConfigError || !(error instanceof AppError)) throw error;
    await output.say(error.message);
    return EXIT.lost;
  }
}

async function readProgram(options: RunOptions): Promise<Program> {
  const code = await (options.file === "-" ? Bun.stdin : existing(options.file)).text();
  if (code === "") throw new UsageError(`${options.file} is empty: there is nothing to run`);
  return {
    code,
    language: options.language ?? languageOf(options.file, code),
    uploads: options.uploads.map(existing),
    stdin: options.stdin ? await Bun.stdin.text() : "",
  };
}

function existing(path: string): Bun.BunFile {
  const found = statSync(path, { throwIfNoEntry: false });
  if (found === undefined) throw new UsageError(`${path} is not there`);
  if (found.isDirectory()) throw new UsageError(`${path} is a directory: a file is needed`);
  return Bun.file(path);
}

/** The service that was named, or one of this process's own. */
async function serviceFor(options: RunOptions): Promise<Service> {
  if (options.server === null) return startEmbedded();
  const key = process.env["SANDBOX_API_KEY"];
  return { url: options.server, key, stop: () => Promise.resolve(), abandon: () => {} };
}

/** In the session that was named, or one of its own. Returns the exit code. */
async function runOn(run: Run): Promise<number> {
  const { client, options, output } = run;
  if (options.session !== null) return runIn(run, options.session);
  // Its id is chosen here, so that it can be deleted also when the answer to its creation never comes.
  const session = newSessionId(new Date());
  try {
    await openSession(run, session);
    return await runIn(run, session);
  } finally {
    if (options.keep) await output.say(`session ${session} is kept`);
    // Whatever becomes of that, the run has its exit code; a session that nobody uses ends by itself.
    else await client.json("DELETE", `/sessions/${session}`).catch(() => {});
  }
}

async function runIn({ client, options, program, output, stop }: Run, session: string): Promise<number> {
  for (const [index, file] of program.uploads.entries())
    await client.upload(session, basename(options.uploads[index] ?? ""), file, stop);
  stop.throwIfAborted();
  const path = `/sessions/${encodeURIComponent(session)}/executions`;
  const body = {
    code: program.code,
    language: program.language,
    timeout: options.timeoutS,
    env_vars: options.env,
    stdin: program.stdin,
  };
  const execution = await client.jsonText<ExecutionView>("POST", path, withMember(body, "event", options.event));
  const exitCode = await follow(client, execution.id, output, stop);
  const fetched = stop.aborted || (await fetchFiles(client, session, options.downloads, output));
  return fetched || exitCode !== 0 ? exitCode : 1;
}

async function openSession({ client, options, program, stop }: Run, id: string): Promise<void> {
  const template = options.template ?? (program.language.endsWith("script") ? "nodejs-basic" : "python-basic");
  const fields = { id, template_id: template };
  let session = await client.json<SessionView>("POST", "/sessions?wait=60", fields, stop);
  while (session.status === "creating") {
    await delay(STARTING_CHECK_MS, undefined, { signal: stop });
    session = await client.json<SessionView>("GET", `/sessions/${id}`, undefined, stop);
  }
  if (session.status !== "running")
    throw new AppError("executor_unavailable", `the session did not start: ${session.error_message ?? session.status}`);
}

/** Puts files of the workspace into the current directory. False when one could not be fetched. */
async function fetchFiles(client: RunClient, session: string, paths: string[], output: RunOutput): Promise<boolean> {
  let all = true;
  for (const path of paths) {
    try {
      await Bun.write(basename(path), await client.download(session, path));
    } catch (error) {
      all = false;
      await output.say(`${path} was not downloaded: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
  return all;
}
