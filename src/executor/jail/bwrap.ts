import { existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { AppError } from "../../errors.ts";
import { resolveImage } from "../images.ts";
import { JAIL_PATHS } from "../languages/launch.ts";
import type { Check, SandboxLimits, SandboxSpec } from "../protocol.ts";
import { prepareRuntime, type RuntimeFiles } from "../runtime.ts";
import { bwrapArguments } from "./bwrap-arguments.ts";
import { findCgroups, leftoverGroups, SandboxCgroup, type CgroupRoots } from "./cgroups.ts";
import { hostChecks, inspectHost, type Host } from "./host.ts";
import type { Jail, JailedInit, JailEvents } from "./jail.ts";
import { claimWorkspace, Uids } from "./uids.ts";
import { measureUsage } from "./usage.ts";
import { Watchdog } from "./watchdog.ts";

export type BwrapJailOptions = {
  dataDir: string;
  /** First host uid of sandboxes when started by root. */
  uidBase: number;
};

type Made = {
  workspaceDir: string;
  cgroup: SandboxCgroup | null;
  uid: number | null;
  limits: SandboxLimits;
  rootfs: string | null;
  events: JailEvents;
};

const OPEN_FILES = 4096;
const PENDING_SIGNALS = 1024;
/** How long control groups may keep members after their processes were killed, in milliseconds. */
const GROUP_EMPTY_MS = 5000;

/** Sandboxes in bubblewrap jails on this host. */
export class BwrapJail implements Jail {
  readonly #dataDir: string;
  readonly #host: Host;
  readonly #runtime: RuntimeFiles;
  readonly #cgroups: CgroupRoots;
  /** Null when the service is not root: sandboxes then run as its user. */
  readonly #uids: Uids | null;
  /** The group that holds those of all sandboxes, named after the data directory. */
  readonly #groupName: string;

  /** Throws an Error that says what is missing on this host. */
  static async open(options: BwrapJailOptions): Promise<BwrapJail> {
    const uids = process.getuid?.() === 0 ? new Uids(options.uidBase, options.dataDir) : null;
    const host = await inspectHost();
    const runtime = await prepareRuntime(options.dataDir, uids !== null);
    return new BwrapJail(options.dataDir, host, runtime, uids);
  }

  private constructor(dataDir: string, host: Host, runtime: RuntimeFiles, uids: Uids | null) {
    this.#dataDir = dataDir;
    this.#host = host;
    this.#runtime = runtime;
    this.#cgroups = findCgroups();
    this.#uids = uids;
    this.#groupName = `sandbox-${Bun.hash(dataDir).toString(16)}`;
  }

  async start(id: string, spec: SandboxSpec, events: JailEvents): Promise<JailedInit> {
    const { limits } = spec;
    const rootfs = resolveImage(this.#dataDir, spec.imageUrl);
    const workspaceDir = this.#workspaceDir(id);
    const cgroup = this.#cgroups.version === 0 ? null : new SandboxCgroup(this.#cgroups, `${this.#groupName}/${id}`);
    const uid = await claimWorkspace(workspaceDir, this.#uids);
    try {
      cgroup?.create(limits);
      const command = [...this.#launcher(limits, uid, cgroup), ...this.#bwrap(rootfs, workspaceDir, limits)];
      const child = Bun.spawn(command, { stdin: "pipe", stdout: "pipe", stderr: "pipe", env: {}, cwd: "/" });
      return this.#jailed(child, { workspaceDir, cgroup, uid, limits, rootfs, events });
    } catch (error) {
      cgroup?.remove();
      if (uid !== null) this.#uids?.release(uid);
      throw new AppError("internal", "the jail could not be made", { cause: error });
    }
  }

  #launcher(limits: SandboxLimits, uid: number | null, cgroup: SandboxCgroup | null): string[] {
    const rlimits = { CORE: 0, NOFILE: OPEN_FILES, FSIZE: limits.diskBytes, SIGPENDING: PENDING_SIGNALS };
    return [
      join(this.#runtime.dir, "init"),
      "launch",
      ...(uid === null ? [] : ["--uid", String(uid), "--gid", String(uid)]),
      ...(cgroup?.paths ?? []).flatMap((path) => ["--cgroup", path]),
      ...Object.entries(rlimits).flatMap(([name, value]) => ["--rlimit", `${name}=${value}`]),
      "--",
    ];
  }

  #bwrap(rootfs: string | null, workspaceDir: string, limits: SandboxLimits): string[] {
    const { dir, layersDir, etcDir, bun } = this.#runtime;
    const tmpBytes = Math.floor(limits.memoryBytes / 2);
    const shmBytes = Math.floor(limits.memoryBytes / 4);
    const layout = { ...this.#host, rootfs, workspaceDir, runtimeDir: dir, layersDir, etcDir, bun, tmpBytes, shmBytes };
    return [this.#host.bwrap, ...bwrapArguments(layout, this.#host.usrLinks)];
  }

  #jailed(child: Bun.Subprocess<"pipe", "pipe", "pipe">, made: Made): JailedInit {
    const { workspaceDir, cgroup, uid, limits, events } = made;
    const kill = (): void => {
      child.kill("SIGKILL");
      cgroup?.kill();
    };
    const watchdog = new Watchdog({
      workspaceDir,
      limits,
      activity: cgroup === null ? null : () => cgroup.cpuUs(),
      countedFrom: cgroup === null ? child.pid : null,
      passed: (limit) => events.limitPassed(limit),
      overrun: kill,
    });
    const dispose = async (): Promise<void> => {
      watchdog.stop();
      await child.exited;
      if (cgroup !== null) await emptyAndRemove(cgroup);
      if (uid !== null) this.#uids?.release(uid);
    };
    let disposed: Promise<void> | null = null;
    const { diskBytes } = limits;
    return {
      pid: child.pid,
      stdin: child.stdin,
      stdout: child.stdout,
      stderr: child.stderr,
      exited: child.exited,
      kill,
      memoryKills: () => cgroup?.memoryKills() ?? 0,
      processRefusals: () => cgroup?.processRefusals() ?? 0,
      diskBytesLeft: async () =>
        diskBytes - (await measureUsage(workspaceDir, { bytes: diskBytes, files: Infinity })).bytes,
      dispose: () => (disposed ??= dispose()),
      workspaceDir,
      owner: uid === null ? undefined : { uid, gid: uid },
      inside: insidePaths(made.rootfs),
    };
  }

  #workspaceDir(id: string): string {
    return join(this.#dataDir, "workspaces", id);
  }

  /** By `rm`, which takes paths of any depth and follows no links. */
  async removeWorkspace(id: string): Promise<void> {
    const command = ["rm", "-rf", "--one-file-system", "--", this.#workspaceDir(id)];
    const run = Bun.spawn(command, { stdout: "ignore", stderr: "pipe" });
    const said = await new Response(run.stderr).text();
    if ((await run.exited) !== 0)
      throw new AppError("internal", "the workspace could not be removed", { cause: new Error(said) });
  }

  async cleanUpLeftovers(): Promise<void> {
    mkdirSync(join(this.#dataDir, "workspaces"), { recursive: true, mode: 0o711 });
    if (this.#cgroups.version === 0) return;
    for (const name of leftoverGroups(this.#cgroups, this.#groupName))
      await emptyAndRemove(new SandboxCgroup(this.#cgroups, name));
  }

  close(): void {
    if (this.#cgroups.version !== 0) new SandboxCgroup(this.#cgroups, this.#groupName).remove();
  }

  checks(): Promise<Check[]> {
    return Promise.resolve([
      ...hostChecks(),
      { name: "bubblewrap", ok: true, found: this.#host.bwrap },
      cgroupCheck(this.#cgroups),
      { name: "seccomp", ok: true, found: "a sandbox whose init can't install the filter does not start" },
      { name: "workspace limit", ok: true, found: "a limit on each file, and a watchdog that looks 5 times a second" },
    ]);
  }
}

function cgroupCheck(roots: CgroupRoots): Check {
  const name = "control groups";
  if (roots.version !== 0) return { name, ok: true, found: `version ${roots.version}` };
  const found = `none (${roots.why}): a watchdog holds memory and processes, and nothing holds CPU`;
  return { name, ok: true, found, remedy: "run as root, or delegate a group (systemd: Delegate=yes)" };
}

/** Kills what is left in the groups until the kernel lets go of them. */
async function emptyAndRemove(cgroup: SandboxCgroup): Promise<void> {
  const end = performance.now() + GROUP_EMPTY_MS;
  for (let pauseMs = 1; !cgroup.remove() && performance.now() < end; pauseMs = Math.min(pauseMs * 2, 50)) {
    cgroup.kill();
    await Bun.sleep(pauseMs);
  }
}

/** Interpreters inside: those of the image, or the host's own. */
function insidePaths(rootfs: string | null): JailedInit["inside"] {
  const first = (...paths: string[]): string | undefined => paths.find((path) => existsSync(join(rootfs ?? "/", path)));
  return {
    ...JAIL_PATHS,
    python: first("/usr/bin/python3", "/usr/local/bin/python3") ?? JAIL_PATHS.python,
    shell: first("/bin/bash", "/usr/bin/bash") ?? "/bin/sh",
  };
}
