import { readFileSync, renameSync } from "node:fs";
import { join } from "node:path";
import { buildInit } from "../../../src/executor/init/build.ts";
import {
  encodeFrame,
  encodeInput,
  encodeStart,
  FrameDecoder,
  FrameType,
  parseExit,
  type Frame,
  type StartSpec,
} from "../../../src/executor/init/frames.ts";

/**
 * Where init runs: as process 1 of namespaces of its own, or as in a Pod, below other processes. Those are not this
 * machine's: what init kills by mistake is in a namespace of the test.
 */
export type Place = "jailed" | "plain";
export const PLACES: readonly Place[] = ["jailed", "plain"];

let built: Promise<string> | null = null;

/**
 * The path of init, compiled once for all tests of this run. The next run takes its place: nothing tells a test that it is
 * the last one. Put there in one step, so that two runs at once do each other no harm.
 */
export function initBinary(): Promise<string> {
  built ??= (async () => {
    const path = join(import.meta.dir, "../../../dist/sandbox-init-of-tests");
    const made = `${path}.${process.pid}`;
    await buildInit(made);
    renameSync(made, path);
    return path;
  })();
  return built;
}

export type Ended = {
  stdout: string;
  stderr: string;
  result: string;
  /** What waitpid said. */
  status: number;
  exit: ReturnType<typeof parseExit>;
};

type Waiter = { isMet: (frame: Frame) => boolean; resolve: (frame: Frame) => void; reject: (error: Error) => void };

/** A running init, spoken to in frames. */
export class Init {
  readonly frames: Frame[] = [];
  readonly child: Bun.Subprocess<"pipe", "pipe", "pipe">;
  /** Resolves at the end of what init sent, with its exit code. */
  readonly ended: Promise<number>;
  /** All of stderr, at its end. Of a plain init, the command lines of what it left follow. */
  readonly said: Promise<string>;
  readonly #place: Place;
  #waiters: Waiter[] = [];
  #lastId = 0;

  static async start(place: Place): Promise<Init> {
    const init = new Init(
      Bun.spawn(await initCommand(place), { stdin: "pipe", stdout: "pipe", stderr: "pipe" }),
      place,
    );
    await init.until((frame) => frame.type === FrameType.READY);
    return init;
  }

  private constructor(child: Bun.Subprocess<"pipe", "pipe", "pipe">, place: Place) {
    this.child = child;
    this.ended = this.#read();
    this.said = new Response(child.stderr).text();
    this.#place = place;
  }

  /** Init's own, as this machine numbers it: below bwrap, or below bwrap, its process 1 and the shell. */
  get pid(): number {
    let pid = this.child.pid;
    for (let depth = this.#place === "plain" ? 3 : 1; depth > 0; depth--)
      pid = Number(readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").split(" ")[0]);
    return pid;
  }

  /** A number that no process has had. */
  newId(): number {
    return ++this.#lastId;
  }

  /** Writes bytes in one piece. */
  send(...frames: Uint8Array[]): void {
    void this.child.stdin.write(Buffer.concat(frames));
    void this.child.stdin.flush();
  }

  /** Starts a program with its whole input; returns its number. */
  start(spec: Partial<StartSpec> & { argv: string[] }, { stdin = "", job = "" } = {}): number {
    const id = this.newId();
    this.send(
      encodeFrame(FrameType.START, id, encodeStart({ env: { PATH: "/usr/bin:/bin" }, cwd: "/tmp", ...spec })),
      ...encodeInput(FrameType.JOB, id, Buffer.from(job)),
      ...encodeInput(FrameType.STDIN, id, Buffer.from(stdin)),
    );
    return id;
  }

  sh(script: string, input: { stdin?: string; job?: string } = {}): number {
    return this.start({ argv: ["/bin/sh", "-c", script] }, input);
  }

  python(code: string): number {
    return this.start({ argv: ["/usr/bin/python3", "-I", "-S", "-c", code] });
  }

  /** The first frame, of those that came and that will come, that is as wanted. */
  until(isMet: (frame: Frame) => boolean): Promise<Frame> {
    const there = this.frames.find(isMet);
    if (there !== undefined) return Promise.resolve(there);
    const { promise, resolve, reject } = Promise.withResolvers<Frame>();
    this.#waiters.push({ isMet, resolve, reject });
    return promise;
  }

  frame(type: number, id: number): Promise<Frame> {
    return this.until((frame) => frame.type === type && frame.id === id);
  }

  text(type: number, id: number): string {
    const parts = this.frames.filter((frame) => frame.type === type && frame.id === id);
    return Buffer.concat(parts.map(({ payload }) => payload)).toString();
  }

  /** Resolves once a process has written `text` to its stdout. */
  async printed(id: number, text: string): Promise<void> {
    await this.until(() => this.text(FrameType.STDOUT, id).includes(text));
  }

  async exit(id: number): Promise<Ended> {
    const { payload } = await this.frame(FrameType.EXIT, id);
    const exit = parseExit(payload);
    return {
      stdout: this.text(FrameType.STDOUT, id),
      stderr: this.text(FrameType.STDERR, id),
      result: this.text(FrameType.RESULT, id),
      status: exit.waitStatus,
      exit,
    };
  }

  /** Kills an execution; resolves when nothing of it is left. */
  async kill(id: number): Promise<void> {
    this.send(encodeFrame(FrameType.KILL, id));
    await this.frame(FrameType.KILLED, id);
  }

  /** Resolves once init has handled all that was sent before. */
  async ping(): Promise<void> {
    const mark = Buffer.from(`mark ${this.newId()}`);
    this.send(encodeFrame(FrameType.PING, 0, mark));
    await this.until((frame) => frame.type === FrameType.PONG && mark.equals(frame.payload));
  }

  /** Ends init and all of its processes. */
  async close(): Promise<number> {
    void this.child.stdin.end();
    return this.ended;
  }

  async #read(): Promise<number> {
    const decoder = new FrameDecoder();
    for await (const chunk of this.child.stdout)
      for (const frame of decoder.push(chunk)) this.#take({ ...frame, payload: Buffer.from(frame.payload) });
    const code = await this.child.exited;
    for (const { reject } of this.#waiters) reject(new Error(`init ended with ${code}`));
    return code;
  }

  #take(frame: Frame): void {
    this.frames.push(frame);
    const met = this.#waiters.filter(({ isMet }) => isMet(frame));
    this.#waiters = this.#waiters.filter((waiter) => !met.includes(waiter));
    for (const { resolve } of met) resolve(frame);
  }
}

/** The command that starts init there. */
export async function initCommand(place: Place): Promise<string[]> {
  const binary = await initBinary();
  if (place === "plain") return [...BELOW, "/bin/sh", "-c", AND_LIST, binary];
  return [...JAIL, "--ro-bind", binary, "/init", "--", "/init", "init"];
}

/** The namespace outlives init by this: it would take everything along. */
const AND_LIST = `"$0" init; code=$?; cat /proc/[0-9]*/cmdline >&2 2>/dev/null; exit $code`;
const BELOW = [
  ...["bwrap", "--die-with-parent", "--unshare-pid", "--bind", "/", "/", "--dev-bind", "/dev", "/dev"],
  ...["--proc", "/proc", "--"],
];

const JAIL = [
  ...["bwrap", "--unshare-all", "--die-with-parent", "--as-pid-1", "--ro-bind", "/usr", "/usr"],
  ...["--unshare-user", "--uid", "1000", "--gid", "1000", "--cap-drop", "ALL"],
  ...["--symlink", "usr/bin", "/bin", "--symlink", "usr/lib", "/lib", "--symlink", "usr/lib64", "/lib64"],
  ...["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"],
];
