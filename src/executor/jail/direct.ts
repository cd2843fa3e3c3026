import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { AppError } from "../../errors.ts";
import { ONCE } from "../ids.ts";
import { JAIL_PATHS, type SandboxPaths } from "../languages/launch.ts";
import type { Check, SandboxLimits, SandboxSpec } from "../protocol.ts";
import { ContainerGroup } from "./container-group.ts";
import { DiskMeter } from "./disk-meter.ts";
import type { Jail, JailedInit, JailEvents } from "./jail.ts";
import { MemoryGuard } from "./memory-guard.ts";
import { closeToOthers, endAllOthers, killAllOthers, ownStatus } from "./pid-one.ts";
import { activityOf, descendants, killTree } from "./process-tree.ts";
import { removeTree } from "./remove-tree.ts";
import { Watchdog } from "./watchdog.ts";

export type DirectJailOptions = {
  /** The one sandbox's workspace, a directory that is there. */
  workspaceDir: string;
  /** Where programs that run once, beside the sandbox, have their workspaces and layers: the executor's data directory. */
  dataDir: string;
  /** Directory with init, the language runners and the executable as `bun` (install.ts). */
  runtimeDir: string;
  /** Accept a container that isolates less than it must. */
  allowUnisolated: boolean;
};

const OPEN_FILES = 4096;
/** Threads that this process may start beside those that it has, under the user whose processes are counted. */
const SPARE_THREADS = 24;
const ROOT_PROBE = "/.sandbox-probe";

/**
 * No jail but the container that this process is process 1 of: it keeps one sandbox, whose init runs beside this process
 * and under its user. Programs that run once get an init of their own beside that one.
 */
export class DirectJail implements Jail {
  readonly #o: DirectJailOptions;
  readonly #group = new ContainerGroup();
  readonly #checks: Check[];
  #kept: string | null = null;
  /** Children that the runtime waits for. */
  readonly #children = new Set<number>();

  /** Closes this process to the code that will run beside it. Throws an Error that says what is missing. */
  static open(options: DirectJailOptions): DirectJail {
    closeToOthers();
    const checks = containerChecks();
    const broken = checks.find((check) => !check.ok);
    if (broken !== undefined && !options.allowUnisolated)
      throw new Error(`the container is not isolated as it must be: ${broken.name}: ${broken.found}`);
    for (const path of [options.workspaceDir, join(options.runtimeDir, "init")])
      if (!existsSync(path)) throw new Error(`${path} is missing in the container`);
    return new DirectJail(options, checks);
  }

  private constructor(options: DirectJailOptions, checks: Check[]) {
    this.#o = options;
    this.#checks = checks;
  }

  async start(id: string, spec: SandboxSpec, events: JailEvents, egressDir?: string): Promise<JailedInit> {
    if (egressDir !== undefined)
      throw new AppError("bad_request", "network rules can't be applied here: the container's own hold");
    const isOnce = id.startsWith(ONCE);
    if (!isOnce && this.#kept !== null && this.#kept !== id)
      throw new AppError("bad_request", "this executor keeps one sandbox, and it has one");
    const init = join(this.#o.runtimeDir, "init");
    // The kernel counts by user, and the user is this container's own.
    const processes = spec.limits.maxProcesses + Number(ownStatus("Threads")) + SPARE_THREADS;
    const rlimits = { CORE: 0, NOFILE: OPEN_FILES, FSIZE: spec.limits.diskBytes, NPROC: processes };
    const flags = Object.entries(rlimits).flatMap(([name, value]) => ["--rlimit", `${name}=${value}`]);
    try {
      const workspaceDir = this.#workspaceOf(id);
      mkdirSync(workspaceDir, { recursive: true });
      const child = Bun.spawn([init, "launch", ...flags, "--", init, "init"], {
        stdin: "pipe",
        stdout: "pipe",
        stderr: "pipe",
        env: {},
        cwd: "/",
      });
      if (!isOnce) this.#kept = id;
      const rebind = (sessionId: string): void => void (this.#kept = sessionId);
      const jailed = directInit(child, spec.limits, events, {
        group: this.#group,
        children: this.#children,
        workspaceDir,
        besides: [this.#layersDir, ...(isOnce ? [this.#o.workspaceDir] : [])],
        isOnce,
        inside: { ...JAIL_PATHS, runtime: this.#o.runtimeDir, workspace: workspaceDir, layersDir: this.#layersDir },
      });
      return { ...jailed, rebind };
    } catch (error) {
      throw new AppError("internal", "init could not be started", { cause: error });
    }
  }

  get #layersDir(): string {
    return join(this.#o.dataDir, "layers");
  }

  #workspaceOf(id: string): string {
    return id.startsWith(ONCE) ? join(this.#o.dataDir, "workspaces", id) : this.#o.workspaceDir;
  }

  /** A warm sandbox is the one that this executor keeps. */
  canClaim(id: string): boolean {
    return this.#kept !== null && this.#kept !== id;
  }

  async abandon(id: string): Promise<void> {
    if (this.#kept === id) this.#kept = null;
  }

  get onlyWorkspace(): string {
    return this.#o.workspaceDir;
  }

  /** Empties the workspace, which is a mount and stays. */
  async removeWorkspace(id: string): Promise<void> {
    if (id.startsWith(ONCE)) return removeTree(this.#workspaceOf(id));
    if (this.#kept !== id) return;
    for (const name of readdirSync(this.#o.workspaceDir))
      rmSync(join(this.#o.workspaceDir, name), { recursive: true, force: true });
    this.#kept = null;
  }

  cleanUpLeftovers(): Promise<void> {
    return Promise.resolve();
  }

  checks(): Promise<Check[]> {
    return Promise.resolve(this.#checks);
  }

  close(): void {}
}

type Surroundings = {
  group: ContainerGroup;
  /** Children of this process that the runtime waits for. */
  children: Set<number>;
  workspaceDir: string;
  /** Directories that count as the workspace does. */
  besides: readonly string[];
  /** It is beside the container's one sandbox, which must not end with it. */
  isOnce: boolean;
  inside: SandboxPaths;
};

function directInit(
  child: Bun.Subprocess<"pipe", "pipe", "pipe">,
  limits: SandboxLimits,
  events: JailEvents,
  { group, children, workspaceDir, besides, isOnce, inside }: Surroundings,
): JailedInit {
  const pids = (): number[] => descendants(child.pid);
  const kill = isOnce ? () => killTree(child.pid) : killAllOthers;
  children.add(child.pid);
  const disk = new DiskMeter(workspaceDir, limits.diskBytes, pids, besides);
  const activity = (): number => activityOf(child.pid);
  const guard = new MemoryGuard({ group, activity, passed: () => events.limitPassed("memory") });
  const watchdog = new Watchdog({
    disk,
    limits,
    activity,
    countedFrom: child.pid,
    passed: (limit) => events.limitPassed(limit),
    failed: (error) => events.lookFailed(error),
    overrun: kill,
  });
  const exited = child.exited.then(async (code) => {
    watchdog.stop();
    guard.stop();
    if (!isOnce) await endAllOthers(children);
    children.delete(child.pid);
    return code;
  });
  return {
    pid: child.pid,
    stdin: {
      write: (chunk) => {
        watchdog.wake();
        guard.wake();
        return child.stdin.write(chunk);
      },
      flush: () => child.stdin.flush(),
      end: () => child.stdin.end(),
    },
    stdout: child.stdout,
    stderr: child.stderr,
    exited,
    kill,
    memoryKills: () => group.memoryKills(),
    processRefusals: () => group.processRefusals(),
    beginUpload: () => disk.beginUpload(),
    dispose: async () => void (await exited),
    workspaceDir,
    incomingDir: undefined,
    owner: undefined,
    inside: { ...inside, ...interpreters() },
  };
}

/** As the image's PATH finds them. */
function interpreters(): { python: string; shell: string } {
  return {
    python: Bun.which("python3") ?? JAIL_PATHS.python,
    shell: Bun.which("bash") ?? "/bin/sh",
  };
}

function containerChecks(): Check[] {
  const uid = process.getuid?.() ?? 0;
  const capabilities = ownStatus("CapEff");
  const isWritable = isRootWritable();
  return [
    { name: "kernel", ok: true, found: readFileSync("/proc/sys/kernel/osrelease", "utf8").trim() },
    { name: "container", ok: true, found: "the container is the jail; the executor is its process 1, not dumpable" },
    { name: "user", ok: uid !== 0, found: `uid ${uid}` },
    { name: "capabilities", ok: /^0*$/.test(capabilities), found: /^0*$/.test(capabilities) ? "none" : capabilities },
    { name: "no new privileges", ok: ownStatus("NoNewPrivs") === "1", found: ownStatus("NoNewPrivs") },
    { name: "root file system", ok: !isWritable, found: isWritable ? "writable" : "read-only" },
    { name: "seccomp", ok: true, found: `${SECCOMP[ownStatus("Seccomp")] ?? "unknown"}, and init's own filter` },
  ];
}

const SECCOMP: Record<string, string> = { "0": "none by the container", "2": "the container's filter" };

function isRootWritable(): boolean {
  try {
    mkdirSync(ROOT_PROBE);
    rmSync(ROOT_PROBE, { recursive: true });
    return true;
  } catch {
    return false;
  }
}
