import { renameSync } from "node:fs";
import { dirname, join } from "node:path";
import type { Upload } from "../files.ts";
import type { SandboxPaths } from "../languages/launch.ts";
import type { SandboxLimits } from "../protocol.ts";
import type { SandboxCgroup } from "./cgroups.ts";
import { DiskMeter } from "./disk-meter.ts";
import type { JailedInit, JailEvents } from "./jail.ts";
import { killIfThere } from "./proc.ts";
import { activityOf, childrenOf, descendants, isAlive } from "./process-tree.ts";
import type { Uids } from "./uids.ts";
import { Watchdog } from "./watchdog.ts";

export type Jailed = {
  workspaceDir: string;
  incomingDir: string;
  cgroup: SandboxCgroup | null;
  uid: number | null;
  uids: Uids | null;
  limits: SandboxLimits;
  inside: SandboxPaths;
  events: JailEvents;
};

/** How long control groups may keep members after their processes were killed, in milliseconds. */
const GROUP_EMPTY_MS = 5000;

/** The init of one sandbox in a bubblewrap jail: a spawned bwrap, whose one child is process 1 of the sandbox. */
export class BwrapInit implements JailedInit {
  readonly stdin: JailedInit["stdin"];
  readonly exited: Promise<number>;
  workspaceDir: string;
  readonly incomingDir: string;
  readonly owner: JailedInit["owner"];
  readonly inside: SandboxPaths;
  readonly #child: Bun.Subprocess<"pipe", "pipe", "pipe">;
  readonly #j: Jailed;
  #disk: DiskMeter;
  #watchdog: Watchdog;
  #initPid: number | null = null;
  #disposed: Promise<void> | null = null;

  constructor(child: Bun.Subprocess<"pipe", "pipe", "pipe">, jailed: Jailed) {
    this.#child = child;
    this.#j = jailed;
    this.workspaceDir = jailed.workspaceDir;
    this.incomingDir = jailed.incomingDir;
    this.inside = jailed.inside;
    this.owner = jailed.uid === null ? undefined : { uid: jailed.uid, gid: jailed.uid };
    this.#disk = this.#newDisk(jailed.limits);
    this.#watchdog = this.#newWatchdog(jailed.limits);
    this.stdin = {
      write: (chunk) => {
        this.#watchdog.wake();
        return child.stdin.write(chunk);
      },
      flush: () => child.stdin.flush(),
      end: () => child.stdin.end(),
    };
    this.exited = child.exited.then(async (code) => {
      this.#watchdog.stop();
      await this.#untilEmpty();
      return code;
    });
  }

  #newDisk(limits: SandboxLimits): DiskMeter {
    return new DiskMeter(this.workspaceDir, limits.diskBytes, () => this.#pids());
  }

  #newWatchdog(limits: SandboxLimits): Watchdog {
    const { cgroup, events } = this.#j;
    const { pid } = this.#child;
    return new Watchdog({
      disk: this.#disk,
      limits,
      activity: () => (cgroup === null ? activityOf(pid) : cgroup.cpuUs()),
      countedFrom: cgroup === null ? pid : null,
      passed: (limit) => events.limitPassed(limit),
      failed: (error) => events.lookFailed(error),
      overrun: () => this.kill(),
    });
  }

  rebind(id: string, limits: SandboxLimits): void {
    const moved = join(dirname(this.workspaceDir), id);
    this.#j.cgroup?.setLimits(limits);
    renameSync(this.workspaceDir, moved);
    this.workspaceDir = moved;
    this.#watchdog.stop();
    this.#disk = this.#newDisk(limits);
    this.#watchdog = this.#newWatchdog(limits);
  }

  get pid(): number {
    return this.#child.pid;
  }

  get stdout(): ReadableStream<Uint8Array> {
    return this.#child.stdout;
  }

  get stderr(): ReadableStream<Uint8Array> {
    return this.#child.stderr;
  }

  /** The kernel ends a PID namespace with its process 1 in one step, so that nothing can be forked past it. */
  kill(): void {
    const init = this.#findInit();
    if (init !== null && this.#child.exitCode === null) killIfThere(init);
    this.#j.cgroup?.kill();
    this.#child.kill("SIGKILL");
  }

  memoryKills(): number {
    return this.#j.cgroup?.memoryKills() ?? 0;
  }

  processRefusals(): number {
    return this.#j.cgroup?.processRefusals() ?? 0;
  }

  beginUpload(): Promise<Upload> {
    return this.#disk.beginUpload();
  }

  dispose(): Promise<void> {
    this.#disposed ??= this.#dispose();
    return this.#disposed;
  }

  async #dispose(): Promise<void> {
    await this.exited;
    const { cgroup, uid, uids } = this.#j;
    if (cgroup !== null && !cgroup.remove()) await pollUntil(() => cgroup.remove());
    if (uid !== null) uids?.release(uid);
  }

  #pids(): number[] {
    return this.#j.cgroup?.members() ?? descendants(this.#child.pid);
  }

  #findInit(): number | null {
    this.#initPid ??= childrenOf(this.#child.pid)[0] ?? null;
    return this.#initPid;
  }

  /** Processes outlive bwrap for a moment when it was killed before them. */
  async #untilEmpty(): Promise<void> {
    const { cgroup } = this.#j;
    const init = this.#initPid;
    await pollUntil(() => {
      cgroup?.kill();
      return cgroup === null ? init === null || !isAlive(init) : cgroup.members().length === 0;
    });
  }
}

/** Looks at once, then ever less often, for at most GROUP_EMPTY_MS. */
export async function pollUntil(isDone: () => boolean): Promise<void> {
  const end = performance.now() + GROUP_EMPTY_MS;
  for (let pauseMs = 1; !isDone() && performance.now() < end; pauseMs = Math.min(pauseMs * 2, 50))
    await Bun.sleep(pauseMs);
}
