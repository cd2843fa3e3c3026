import type { Check, EgressDecision, Executor, Layer, LayerRequest, SandboxState } from "../executor/protocol.ts";
import type { Session } from "../sessions/session.ts";
import type { Template } from "../templates/template.ts";

export type Provisioned = {
  executor: Executor;
  sandbox: SandboxState;
  runtimeNode: string | null;
  containerId: string | null;
  podName: string | null;
};

/** Where a session's connections leave. `closed` resolves, with the reason, when it carries nothing any more. */
export type OpenTunnel = { readonly closed: Promise<string>; close(): void };

/** Makes and finds the executors that hold sandboxes. Everything is named after the session id, so a repeat is harmless. */
export interface Provisioner {
  /** Workspaces stay after their sandbox until they are deleted; else their versions must be kept elsewhere. */
  readonly keepsWorkspaces: boolean;
  /**
   * Makes the sandbox of the session, or finds it, and resolves when it runs. Throws AppError; one of 4xx, or one that is
   * lasting, means that it never will. The signal ends the waiting alone: what was begun goes on.
   */
  ensure(session: Session, signal?: AbortSignal): Promise<Provisioned>;
  /** Finds or builds a layer where the session's sandbox is, or will be made. See Executor.ensureLayer. */
  ensureLayer(session: Session, request: LayerRequest): Promise<Layer>;
  /**
   * Lets the session's code reach what its rules allow, as long as it is open; `decided` hears each decision. Absent: the
   * executor does that by itself, and keeps the audit log.
   */
  openTunnel?(session: Session, decided: (decision: EgressDecision) => void): Promise<OpenTunnel>;
  /** The executor that keeps (or kept) the session's sandbox, workspace and journals. */
  executorOf(sessionId: string): Promise<Executor>;
  /** Why what kept the session's sandbox was lost after `since`, for people; null when nothing is known. Absent: never known. */
  lossOf?(sessionId: string, since: Date): Promise<string | null>;
  /** Throws `image_unknown` when no sandbox can be made of the image here. */
  checkImage(imageUrl: string): Promise<void>;
  /** Starts sandboxes of these templates ahead, `warm_pool_size` of each, and no others. Absent: it keeps none. */
  keepWarm?(templates: readonly Template[]): Promise<void>;
  /** Ready warm sandboxes, by template. */
  warmSizes?(): Promise<Record<string, number>>;
  /** What else can be said of its health, such as the isolation in force. */
  checks?(): Promise<Check[]>;
  /** Ends the sandbox; with `deleteWorkspace` the files go too. Idempotent. */
  release(sessionId: string, options: { deleteWorkspace: boolean }): Promise<void>;
  /** Ids of the sandboxes that exist, with their status. Throws `executor_unavailable` when it cannot be told. */
  list(): Promise<Map<string, SandboxState["status"]>>;
}
