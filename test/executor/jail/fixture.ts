import { mkdtemp, rm } from "node:fs/promises";
import { openDataDirectory } from "../../../src/data-directory.ts";
import { encodeFrame, encodeStart, FrameDecoder, FrameType } from "../../../src/executor/init/frames.ts";
import { BwrapJail } from "../../../src/executor/jail/bwrap.ts";
import type { JailedInit, SandboxLimit } from "../../../src/executor/jail/jail.ts";
import type { SandboxLimits, SandboxSpec } from "../../../src/executor/protocol.ts";

export const MEBIBYTE = 1024 ** 2;
export const IS_ROOT = process.getuid?.() === 0;

export const LIMITS: SandboxLimits = {
  cpuCores: 1,
  memoryBytes: 256 * MEBIBYTE,
  diskBytes: 64 * MEBIBYTE,
  maxProcesses: 64,
};

const SPEC: SandboxSpec = {
  imageUrl: "sandbox-template-python-basic:v1",
  runtimeType: "python3.11",
  limits: LIMITS,
  env: {},
  maxRunning: 8,
};

type Ended = { stdout: string; stderr: string; status: number };

/** A jail with a data directory of its own. */
export class TestJail {
  readonly jail: BwrapJail;
  readonly dataDir: string;
  readonly #sandboxes: TestSandbox[] = [];

  static async open(options: { useCgroups?: boolean; dataDir?: string } = {}): Promise<TestJail> {
    const dataDir = options.dataDir ?? (await mkdtemp("/tmp/sandbox-jail-"));
    openDataDirectory(dataDir);
    const jail = await BwrapJail.open({ uidBase: 600_000, ...options, dataDir });
    await jail.cleanUpLeftovers();
    return new TestJail(jail, dataDir);
  }

  private constructor(jail: BwrapJail, dataDir: string) {
    this.jail = jail;
    this.dataDir = dataDir;
  }

  async start(id: string, limits: Partial<SandboxLimits> = {}, imageUrl = SPEC.imageUrl): Promise<TestSandbox> {
    const passed: SandboxLimit[] = [];
    const spec = { ...SPEC, imageUrl, limits: { ...LIMITS, ...limits } };
    const first = Promise.withResolvers<SandboxLimit>();
    const init = await this.jail.start(id, spec, {
      limitPassed: (limit) => {
        passed.push(limit);
        first.resolve(limit);
        return false;
      },
      lookFailed: (error) => {
        throw error;
      },
    });
    const sandbox = new TestSandbox(init, first.promise, passed);
    this.#sandboxes.push(sandbox);
    try {
      await sandbox.ready;
    } catch (error) {
      await sandbox.end();
      throw error;
    }
    return sandbox;
  }

  async close(): Promise<void> {
    for (const sandbox of this.#sandboxes) await sandbox.end();
    this.jail.close();
    for (const name of ["chmod -R u+rwX", "rm -rf"])
      await Bun.spawn([...name.split(" "), this.dataDir], { stderr: "ignore" }).exited;
    await rm(this.dataDir, { recursive: true, force: true });
  }
}

/** A started sandbox, spoken to in frames. */
export class TestSandbox {
  readonly init: JailedInit;
  readonly ready: Promise<void>;
  /** The first limit that a watchdog found passed. */
  readonly limitPassed: Promise<SandboxLimit>;
  readonly passed: SandboxLimit[];
  readonly #ready = Promise.withResolvers<void>();
  readonly #runs = new Map<number, { out: Buffer[]; err: Buffer[]; ended: PromiseWithResolvers<Ended> }>();
  #last = 0;

  constructor(init: JailedInit, limitPassed: Promise<SandboxLimit>, passed: SandboxLimit[]) {
    this.init = init;
    this.limitPassed = limitPassed;
    this.passed = passed;
    this.ready = this.#ready.promise;
    void this.#read();
  }

  /** Runs a shell program to its end; status as from wait(2). Never settles when the sandbox ends before. */
  sh(code: string): Promise<Ended> {
    return this.#run(["/bin/bash", "-c", code]);
  }

  /** Runs a Python program to its end. */
  python(code: string): Promise<Ended> {
    return this.#run(["/usr/bin/python3", "-I", "-c", code]);
  }

  #run(argv: string[]): Promise<Ended> {
    this.#last += 1;
    const ended = Promise.withResolvers<Ended>();
    this.#runs.set(this.#last, { out: [], err: [], ended });
    const env = { PATH: "/usr/bin:/bin" };
    void this.init.stdin.write(encodeFrame(FrameType.START, this.#last, encodeStart({ argv, env, cwd: "/workspace" })));
    for (const type of [FrameType.STDIN, FrameType.JOB])
      void this.init.stdin.write(encodeFrame(type, this.#last, new Uint8Array(), 1));
    void this.init.stdin.flush();
    return ended.promise;
  }

  /** Ends what the last run left, too. */
  async end(): Promise<void> {
    this.init.kill();
    await this.init.dispose();
  }

  async #read(): Promise<void> {
    const decoder = new FrameDecoder();
    for await (const chunk of this.init.stdout) for (const frame of decoder.push(chunk)) this.#take(frame);
    this.#ready.reject(new Error(await new Response(this.init.stderr).text()));
  }

  #take({ type, id, payload }: { type: number; id: number; payload: Uint8Array }): void {
    if (type === FrameType.READY) return this.#ready.resolve();
    const run = this.#runs.get(id);
    if (type === FrameType.STDOUT) run?.out.push(Buffer.from(payload));
    if (type === FrameType.STDERR) run?.err.push(Buffer.from(payload));
    if (type === FrameType.START_FAILED) run?.ended.reject(new Error(Buffer.from(payload).toString("utf8", 4)));
    if (type !== FrameType.EXIT) return;
    run?.ended.resolve({
      stdout: Buffer.concat(run.out).toString(),
      stderr: Buffer.concat(run.err).toString(),
      status: Buffer.from(payload).readInt32LE(0),
    });
  }
}
