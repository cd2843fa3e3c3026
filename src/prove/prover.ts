import { mkdtemp, rm, writeFile, chmod } from "node:fs/promises";
import { createServer, type Server } from "node:net";
import { join } from "node:path";
import { EXHAUSTION } from "./exhaustion.ts";
import { FILES } from "./files.ts";
import { NETWORK } from "./network.ts";
import { PROCESSES } from "./processes.ts";
import type { HostileProgram, World } from "./program.ts";
import { SYSTEM_CALLS } from "./system-calls.ts";

export const HOSTILE_PROGRAMS: readonly HostileProgram[] = [
  ...SYSTEM_CALLS,
  ...FILES,
  ...NETWORK,
  ...PROCESSES,
  ...EXHAUSTION,
];

/** What one program came to. `held` is false when the property broke, or when the program could not make its attempt. */
export type Verdict = { name: string; group: string; property: string; held: boolean; detail: string };

export type ProverOptions = {
  /** Base URL of the service, its key if it has one. */
  url: string;
  key?: string;
  dataDir: string;
  executorPid: number;
};

type Execution = { status: string; stdout: string; stderr: string; error_message: string | null };

/** How long the neighbour session may take to answer while or after an attack, in milliseconds. */
const NEIGHBOUR_MS = 5000;

/** Runs hostile programs in a session of their own and looks at the world outside after each. */
export class Prover {
  readonly #options: ProverOptions;
  #world: World | null = null;
  #canaryDir = "";
  #listener: Server | null = null;
  #abstract: Server | null = null;
  #connections = 0;
  #bystander: Bun.Subprocess | null = null;
  #session: string | null = null;

  constructor(options: ProverOptions) {
    this.#options = options;
  }

  /** Sets up what the programs attack. Call `close` afterwards in any case. */
  async open(): Promise<void> {
    const canary = `canary-${crypto.randomUUID()}`;
    this.#canaryDir = await mkdtemp("/tmp/sandbox-canary-");
    await chmod(this.#canaryDir, 0o755);
    const file = join(this.#canaryDir, "canary");
    await writeFile(file, canary, { mode: 0o644 });
    this.#bystander = Bun.spawn(["sleep", "86400"], {
      env: { PATH: process.env["PATH"] ?? "/bin:/usr/bin", CANARY: canary },
    });
    this.#listener = await this.#countingServer({ host: "127.0.0.1", port: 0 });
    const abstractName = `sandbox-canary-${crypto.randomUUID()}`;
    this.#abstract = await this.#countingServer({ path: `\0${abstractName}` });
    const other = await this.#newSession();
    await this.#run(other, `open("secret.txt", "w").write("${canary}")`, "python", 10);
    const address = this.#listener.address();
    this.#world = {
      CANARY_FILE: file,
      CANARY_TEXT: canary,
      DATA_DIR: this.#options.dataDir,
      OTHER_SESSION: other,
      HOST_PID: String(this.#bystander.pid),
      EXECUTOR_PID: String(this.#options.executorPid),
      HOST_PORT: String(typeof address === "object" ? address?.port : 0),
      ABSTRACT_SOCKET: abstractName,
    };
  }

  async #countingServer(where: { host: string; port: number } | { path: string }): Promise<Server> {
    const server = createServer((socket) => {
      this.#connections++;
      socket.destroy();
    });
    const ready = Promise.withResolvers<void>();
    server.once("error", ready.reject);
    server.listen(where, ready.resolve);
    await ready.promise;
    return server;
  }

  async close(): Promise<void> {
    this.#listener?.close();
    this.#abstract?.close();
    this.#bystander?.kill("SIGKILL");
    for (const session of [this.#session, this.#world?.OTHER_SESSION ?? null])
      if (session !== null) await this.#call("DELETE", `/sessions/${session}`).catch(() => undefined);
    await rm(this.#canaryDir, { recursive: true, force: true });
  }

  /** Runs one program and says whether its property held. Never throws for what the program does. */
  async prove(program: HostileProgram): Promise<Verdict> {
    const { name, group, property } = program;
    try {
      const broken = (await this.#attack(program)) ?? (await this.#outside(program));
      return { name, group, property, held: broken === null, detail: broken ?? "" };
    } catch (error) {
      return { name, group, property, held: false, detail: error instanceof Error ? error.message : String(error) };
    }
  }

  /** What the program itself achieved; null when nothing. */
  async #attack(program: HostileProgram): Promise<string | null> {
    this.#session ??= await this.#newSession();
    const code = this.#fill(program.code);
    const ended = await this.#run(this.#session, code, program.language, program.timeout ?? 10);
    const escaped = /^ESCAPED.*$/m.exec(ended.stdout)?.[0];
    if (escaped !== undefined) return escaped.slice(0, 300);
    const silent = !/^TRIED/m.test(ended.stdout) && program.mayBeSilent !== true;
    const unexpected = ended.status !== "completed" && program.mayEnd?.includes(ended.status) !== true;
    if (silent || unexpected)
      return `not tried: ${ended.status} ${ended.error_message ?? ""} ${ended.stdout.slice(-200)} ${ended.stderr.slice(-500)}`;
    return null;
  }

  /** What is wrong with the world after the attack; null when all stands. */
  async #outside(program: HostileProgram): Promise<string | null> {
    const world = this.#facts();
    if ((await Bun.file(world.CANARY_FILE).text()) !== world.CANARY_TEXT) return "the host's file was changed";
    if (this.#bystander?.exitCode !== null || this.#bystander.signalCode !== null)
      return "the host's process was ended";
    if (this.#connections > 0) return "a connection reached the host";
    if (!(await Bun.file(`/proc/${world.EXECUTOR_PID}/stat`).exists())) return "the executor was ended";
    if (!(await this.#answers(world.OTHER_SESSION))) return "the neighbour session no longer answers";
    const stands = await this.#answers(this.#session ?? "");
    if (stands && program.leavesProcesses !== true) return null;
    const used = this.#session;
    this.#session = null;
    await this.#call("DELETE", `/sessions/${used}`);
    return stands || program.mayLoseSession === true ? null : "the session no longer answers";
  }

  async #answers(session: string): Promise<boolean> {
    const started = performance.now();
    const ended = await this.#run(session, "print('alive')", "python", NEIGHBOUR_MS / 1000).catch(() => null);
    return ended?.stdout === "alive\n" && performance.now() - started < NEIGHBOUR_MS;
  }

  #facts(): World {
    if (this.#world === null) throw new Error("open() comes first");
    return this.#world;
  }

  #fill(code: string): string {
    const world: Record<string, string> = this.#facts();
    return code.replaceAll(/\{\{([A-Z_]+)\}\}/g, (_, name: string) => world[name] ?? "");
  }

  async #newSession(): Promise<string> {
    const limits = { memory: "256Mi", disk: "256Mi", cpu: "1" };
    const made = await this.#call("POST", "/sessions?wait=30", { template_id: "python-basic", ...limits });
    if (made["status"] !== "running") throw new Error(`no session: ${JSON.stringify(made)}`);
    return String(made["id"]);
  }

  async #run(session: string, code: string, language: string, timeout: number): Promise<Execution> {
    const path = `/sessions/${session}/executions?wait=${timeout + 30}`;
    return (await this.#call("POST", path, { code, language, timeout })) as Execution;
  }

  async #call(method: string, path: string, body?: unknown): Promise<Record<string, unknown>> {
    const { url, key } = this.#options;
    const response = await fetch(`${url}/api/v1${path}`, {
      method,
      headers: { "Content-Type": "application/json", ...(key === undefined ? {} : { Authorization: `Bearer ${key}` }) },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text.slice(0, 300)}`);
    return text === "" ? {} : (JSON.parse(text) as Record<string, unknown>);
  }
}
