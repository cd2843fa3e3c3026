import { chmodSync, existsSync, lstatSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { AppError } from "../../errors.ts";
import { clearRemovedImages, resolveImage } from "../images.ts";
import { incomingDir } from "../incoming.ts";
import { JAIL_PATHS } from "../languages/launch.ts";
import type { Check, SandboxLimits, SandboxSpec } from "../protocol.ts";
import { prepareRuntime, type RuntimeFiles } from "../runtime.ts";
import { bwrapArguments } from "./bwrap-arguments.ts";
import { BwrapInit, pollUntil } from "./bwrap-init.ts";
import { findCgroups, type CgroupRoots } from "./cgroup-roots.ts";
import { clearGroups, groupParents, SandboxCgroup } from "./cgroups.ts";
import { hostChecks, inspectHost, limitChecks, type Host } from "./host.ts";
import type { Jail, JailedInit, JailEvents } from "./jail.ts";
import { explain, inspectInit } from "./probe.ts";
import { childrenOf } from "./process-tree.ts";
import { removeTree } from "./remove-tree.ts";
import { Stage } from "./stage.ts";
import { claimWorkspace, Uids } from "./uids.ts";

export type BwrapJailOptions = {
  dataDir: string;
  /** First host uid of sandboxes when started by root. */
  uidBase: number;
  /** False: as if no control group could be written. */
  useCgroups?: boolean;
};

type JailPaths = RuntimeFiles & { rootfs: string | null; workspaceDir: string; egressDir: string | undefined };

const OPEN_FILES = 4096;
const PENDING_SIGNALS = 1024;
/** No id of a sandbox starts with a dot. */
const PROBE = ".probe";
const PROBE_SPEC: SandboxSpec = {
  imageUrl: "sandbox-template-python-basic",
  runtimeType: "",
  limits: { cpuCores: 1, memoryBytes: 128 * 1024 ** 2, diskBytes: 16 * 1024 ** 2, maxProcesses: 16 },
  env: {},
  maxRunning: 1,
};
const PROBE_MS = 10_000;
/** How long what was seen of the isolation is taken for true, in milliseconds. */
const CHECKED_MS = 2000;

/** Sandboxes in bubblewrap jails on this host. */
export class BwrapJail implements Jail {
  readonly #dataDir: string;
  readonly #host: Host;
  readonly #runtime: RuntimeFiles;
  readonly #cgroups: CgroupRoots;
  readonly #stage: Stage;
  /** Null when the service is not root: sandboxes then run as its user. */
  readonly #uids: Uids | null;
  /** The group that holds those of all sandboxes, named after the data directory. */
  readonly #groupName: string;
  #checks: Check[] = [];
  #checkedMs = 0;
  #checking: Promise<Check[]> | null = null;

  /**
   * Makes a sandbox to see that it can be done and that it is isolated as it must be. Throws an Error that says what is
   * missing on this host.
   */
  static async open(options: BwrapJailOptions): Promise<BwrapJail> {
    const { dataDir } = options;
    const workspaces = join(dataDir, "workspaces");
    mkdirSync(workspaces, { recursive: true });
    chmodSync(workspaces, 0o711);
    const uids = process.getuid?.() === 0 ? new Uids(options.uidBase, workspaces) : null;
    const host = await inspectHost();
    const runtime = await prepareRuntime(dataDir, uids !== null);
    const cgroups = options.useCgroups === false ? { version: 0 as const, why: "switched off" } : findCgroups();
    const jail = new BwrapJail(dataDir, host, runtime, uids, cgroups);
    jail.#checks = await jail.#probe();
    jail.#checkedMs = performance.now();
    return jail;
  }

  private constructor(dataDir: string, host: Host, runtime: RuntimeFiles, uids: Uids | null, cgroups: CgroupRoots) {
    this.#dataDir = dataDir;
    this.#host = host;
    this.#runtime = runtime;
    this.#cgroups = cgroups;
    this.#uids = uids;
    this.#stage = new Stage(dataDir, uids !== null);
    this.#groupName = `sandbox-${Bun.hash(dataDir).toString(16)}`;
  }

  async start(id: string, spec: SandboxSpec, events: JailEvents, egressDir?: string): Promise<JailedInit> {
    const { limits } = spec;
    const rootfs = resolveImage(this.#dataDir, spec.imageUrl);
    const workspaceDir = this.#workspaceDir(id);
    const cgroup = this.#cgroups.version === 0 ? null : new SandboxCgroup(this.#cgroups, `${this.#groupName}/${id}`);
    const isNew = !existsSync(workspaceDir);
    let uid: number | null = null;
    try {
      uid = await claimWorkspace(workspaceDir, this.#uids);
      cgroup?.create(limits);
      const { paths, launcher } = this.#stage.place({ rootfs, workspaceDir, egressDir, ...this.#runtime });
      const command = [
        ...this.#launcher(limits, uid, cgroup),
        ...launcher,
        "--",
        ...this.#bwrap(paths, limits, cgroup),
      ];
      const child = Bun.spawn(command, { stdin: "pipe", stdout: "pipe", stderr: "pipe", env: {}, cwd: "/" });
      const places = { workspaceDir, incomingDir: incomingDir(this.#dataDir), inside: insidePaths(rootfs) };
      return new BwrapInit(child, { ...places, cgroup, uid, limits, events, uids: this.#uids });
    } catch (error) {
      cgroup?.remove();
      if (isNew) removeEmpty(workspaceDir);
      if (uid !== null) this.#uids?.release(uid);
      if (uid !== null && isNew) this.#uids?.forget(uid);
      if ((error as NodeJS.ErrnoException).code === "ENOSPC")
        throw new AppError("disk_full", "the disk of the executor is full", { cause: error });
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
    ];
  }

  #bwrap(paths: JailPaths, limits: SandboxLimits, cgroup: SandboxCgroup | null): string[] {
    const layout = {
      ...this.#host,
      ...paths,
      runtimeDir: paths.dir,
      tmpBytes: Math.floor(limits.memoryBytes / 2),
      shmBytes: Math.floor(limits.memoryBytes / 4),
      processLimit: cgroup === null && this.#host.countsProcessesByNamespace ? limits.maxProcesses : null,
    };
    return [this.#host.bwrap, ...bwrapArguments(layout, this.#host.usrLinks)];
  }

  #workspaceDir(id: string): string {
    return join(this.#dataDir, "workspaces", id);
  }

  canClaim(id: string): boolean {
    return !existsSync(this.#workspaceDir(id));
  }

  async removeWorkspace(id: string): Promise<void> {
    const dir = this.#workspaceDir(id);
    const owner = lstatSync(dir, { throwIfNoEntry: false })?.uid;
    await removeTree(dir);
    if (owner !== undefined) this.#uids?.forget(owner);
  }

  async cleanUpLeftovers(): Promise<void> {
    await removeTree(incomingDir(this.#dataDir));
    mkdirSync(incomingDir(this.#dataDir), { mode: 0o700 });
    await clearRemovedImages(this.#dataDir);
    const record = join(this.#dataDir, "executor/cgroups");
    const parents = groupParents(this.#cgroups, this.#groupName);
    const known = [...new Set([...readLines(record), ...parents])];
    await pollUntil(() => clearGroups(known));
    mkdirSync(join(this.#dataDir, "executor"), { recursive: true, mode: 0o700 });
    writeFileSync(record, parents.join("\n"), { mode: 0o600 });
  }

  close(): void {
    clearGroups(groupParents(this.#cgroups, this.#groupName));
    this.#uids?.close();
  }

  checks(): Promise<Check[]> {
    if (performance.now() - this.#checkedMs < CHECKED_MS) return Promise.resolve(this.#checks);
    this.#checking ??= this.#checkAgain().finally(() => (this.#checking = null));
    return this.#checking;
  }

  async #checkAgain(): Promise<Check[]> {
    try {
      this.#checks = await this.#probe();
    } catch (error) {
      this.#checks = [{ name: "isolation", ok: false, found: said(error) }];
    }
    this.#checkedMs = performance.now();
    return this.#checks;
  }

  /** Checks of a sandbox that was really made. Throws when one is not ok: nothing may run then. */
  async #probe(): Promise<Check[]> {
    await removeTree(this.#workspaceDir(PROBE));
    const init = await this.start(PROBE, PROBE_SPEC, { limitPassed: () => false, lookFailed: () => {} });
    const timer = setTimeout(() => init.kill(), PROBE_MS);
    try {
      if (!(await saysSomething(init.stdout))) throw new Error(explain(await new Response(init.stderr).text()));
      const checks = inspectInit(childrenOf(init.pid)[0] ?? init.pid, init.owner?.uid ?? null);
      const broken = checks.find((check) => !check.ok);
      if (broken !== undefined) throw new Error(`sandboxes are not isolated here: ${broken.name}: ${broken.found}`);
      return [...hostChecks(this.#host), ...checks, ...limitChecks(this.#host, this.#cgroups)];
    } finally {
      clearTimeout(timer);
      init.kill();
      await init.dispose();
      await this.removeWorkspace(PROBE);
    }
  }
}

function said(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause instanceof Error ? `${error.message}: ${error.cause.message}` : error.message;
}

/** True when something came, false at the end. */
async function saysSomething(stream: ReadableStream<Uint8Array>): Promise<boolean> {
  const reader = stream.getReader();
  const { done } = await reader.read();
  reader.releaseLock();
  return !done;
}

function readLines(path: string): string[] {
  return existsSync(path) ? readFileSync(path, "utf8").split("\n").filter(Boolean) : [];
}

function removeEmpty(dir: string): void {
  try {
    rmdirSync(dir);
  } catch {
    // It was not made, or is not empty and so not new.
  }
}

/** Interpreters inside: those of the image, or the host's own. */
function insidePaths(rootfs: string | null): JailedInit["inside"] {
  const isThere = (path: string): boolean =>
    lstatSync(join(rootfs ?? "/", path), { throwIfNoEntry: false }) !== undefined;
  return {
    ...JAIL_PATHS,
    python: ["/usr/bin/python3", "/usr/local/bin/python3"].find(isThere) ?? JAIL_PATHS.python,
    shell: ["/bin/bash", "/usr/bin/bash", "/usr/local/bin/bash"].find(isThere) ?? "/bin/sh",
  };
}
