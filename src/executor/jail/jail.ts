import type { Upload } from "../files.ts";
import type { SandboxPaths } from "../languages/launch.ts";
import type { Check, SandboxLimits, SandboxSpec } from "../protocol.ts";

/** How sandboxes are isolated on this host. Implementations: bubblewrap (bwrap.ts), and a Pod's own container (direct.ts). */
export interface Jail {
  /**
   * Starts `sandbox-init init` isolated as the spec says, on the workspace `<dataDir>/workspaces/<id>` (made if it is
   * missing), with `egressDir`, where there is one, at `/.egress`. Resolves when the process was spawned; READY comes on
   * its stdout. Throws AppError (`image_unknown`, `disk_full`, `internal`) and then leaves nothing behind.
   */
  start(id: string, spec: SandboxSpec, events: JailEvents, egressDir?: string): Promise<JailedInit>;
  /** Whether a warm sandbox can become this one: only where there is no workspace of that id yet. Absent: never. */
  canClaim?(id: string): boolean;
  /** The workspace of the one sandbox that there can be, whether it is there or not. Absent: each has its own. */
  readonly onlyWorkspace?: string;
  /** Forgets a warm sandbox that has ended unclaimed, where the next one gets its workspace. Absent: each has its own. */
  abandon?(id: string): Promise<void>;
  /** Removes the workspace of a sandbox that is not running, also one that never existed. */
  removeWorkspace(id: string): Promise<void>;
  /** Ends and removes what executors before this one left: processes, cgroups, uid claims. */
  cleanUpLeftovers(): Promise<void>;
  /** What isolation is in force, one check a mechanism: that of the last two seconds, else it is looked at again. */
  checks(): Promise<Check[]>;
  /** Removes what sandboxes share, once none is left. */
  close(): void;
}

export type SandboxLimit = "memory" | "disk" | "processes";

export type JailEvents = {
  /** A watchdog found a limit passed. The sandbox ends every running execution for it. May come again. */
  limitPassed(limit: SandboxLimit): boolean;
  /** A watchdog's look failed, which is a fault of this program; it looks again. May come again. */
  lookFailed(error: unknown): void;
};

/** The started init and what the executor needs of its jail. */
export type JailedInit = {
  /** Host pid of the process that was spawned. */
  pid: number;
  stdin: { write(chunk: Uint8Array): number | Promise<number>; flush(): number | Promise<number>; end(): unknown };
  stdout: ReadableStream<Uint8Array>;
  stderr: ReadableStream<Uint8Array>;
  /** Resolves with the exit code when the process has ended, and every process of the sandbox with it. */
  exited: Promise<number>;
  /** Ends every process of the sandbox at once (SIGKILL). */
  kill(): void;
  /** How often the kernel killed a process of this sandbox for memory so far; 0 where that can't be told. Synchronous and cheap. */
  memoryKills(): number;
  /** How often a fork was refused for the process limit so far; 0 where that can't be told. Synchronous and cheap. */
  processRefusals(): number;
  /** Counts a write from outside under the disk limit, where there is one. */
  beginUpload(): Promise<Upload>;
  /** Makes the jail that of another sandbox id, whose workspace must not exist: the workspace moves, the limits change. */
  rebind?(id: string, limits: SandboxLimits): void;
  /** Removes cgroups, uid claim and whatever else was set up, once the process has ended. Idempotent. Keeps the workspace. */
  dispose(): Promise<void>;
  /** The workspace on the host. */
  workspaceDir: string;
  /** Where uploads to it are that are not whole yet, on its file system; undefined: beside what they become. */
  incomingDir: string | undefined;
  /** Owner of files written from outside; undefined: the executor's own. */
  owner: { uid: number; gid: number } | undefined;
  /** Paths as processes of the sandbox see them. */
  inside: SandboxPaths;
};
