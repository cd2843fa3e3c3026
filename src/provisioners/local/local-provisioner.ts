import { hostname } from "node:os";
import { AppError } from "../../errors.ts";
import type { Check, Executor, Layer, LayerRequest, PoolSpec, SandboxState } from "../../executor/protocol.ts";
import { sameLayerRequest } from "../../sessions/dependencies.ts";
import type { Session } from "../../sessions/session.ts";
import type { Template } from "../../templates/template.ts";
import type { Provisioned, Provisioner } from "../provisioner.ts";
import { sandboxSpec, templateSpec } from "../sandbox-spec.ts";

export type LocalProvisionerDeps = {
  /** Connects to the executor of the data directory, starting one when none runs. */
  connect(): Promise<Executor>;
  /** Throws `image_unknown` for an image that was not imported. */
  checkImage(imageUrl: string): void;
  /** Executions that run at once in a session. */
  maxRunning: number;
  maxProcesses: number;
};

/** The edge: one executor process on this host keeps every sandbox. A dead one is started again at the next use. */
export class LocalProvisioner implements Provisioner {
  readonly keepsWorkspaces = true;
  readonly #d: LocalProvisionerDeps;
  #executor: Promise<Executor> | null = null;
  #told: { pools: string; executor: Executor | null } = { pools: "[]", executor: null };

  constructor(deps: LocalProvisionerDeps) {
    this.#d = deps;
  }

  executorOf(): Promise<Executor> {
    this.#executor ??= this.#d.connect().catch((error: unknown) => {
      this.#executor = null;
      throw error;
    });
    return this.#executor;
  }

  async checkImage(imageUrl: string): Promise<void> {
    this.#d.checkImage(imageUrl);
  }

  async ensure(session: Session): Promise<Provisioned> {
    const executor = await this.executorOf();
    const sandbox = await this.#watching(this.#make(executor, session));
    return { executor, sandbox, runtimeNode: hostname(), containerId: null, podName: null };
  }

  async ensureLayer(_session: Session, request: LayerRequest): Promise<Layer> {
    return (await this.executorOf()).ensureLayer(request);
  }

  /** With the session's packages, which are installed again when their layer is gone. */
  async #make(executor: Executor, session: Session): Promise<SandboxState> {
    const hasPackages = session.installed_dependencies.length > 0;
    const layers = hasPackages ? [(await executor.ensureLayer(sameLayerRequest(session))).name] : [];
    return executor.createSandbox(session.id, { ...sandboxSpec(session, this.#d.maxRunning), layers });
  }

  /** Told again whenever the templates differ, or another executor may not know yet. */
  async keepWarm(templates: readonly Template[]): Promise<void> {
    const pools = templates.map((template) => this.#poolOf(template));
    const wanted = JSON.stringify(pools);
    const executor = await this.executorOf();
    if (wanted === this.#told.pools && executor === this.#told.executor) return;
    await this.#watching(executor.setPools(pools));
    this.#told = { pools: wanted, executor };
  }

  #poolOf(template: Template): PoolSpec {
    const sandbox = templateSpec(template, this.#d);
    return { id: template.id, size: template.warm_pool_size, sandbox };
  }

  async checks(): Promise<Check[]> {
    const executor = await this.executorOf();
    const [health, isolation] = await this.#watching(Promise.all([executor.health(), executor.isolation()]));
    const found = `pid ${health.pid}, ${health.sandboxes} sandboxes, ${health.runningExecutions} running`;
    return [{ name: "executor", ok: true, found }, ...isolation];
  }

  async warmSizes(): Promise<Record<string, number>> {
    return (await this.#watching((await this.executorOf()).health())).pools;
  }

  async release(sessionId: string, options: { deleteWorkspace: boolean }): Promise<void> {
    await this.#watching((await this.executorOf()).deleteSandbox(sessionId, options));
  }

  async list(): Promise<Map<string, SandboxState["status"]>> {
    const sandboxes = await this.#watching((await this.executorOf()).listSandboxes());
    return new Map(sandboxes.map((sandbox) => [sandbox.id, sandbox.status]));
  }

  /** Ends the executor and every sandbox, if one was used. */
  async shutdown(): Promise<void> {
    if (this.#executor === null) return;
    const executor = await this.#executor;
    this.#executor = null;
    await executor.shutdown();
  }

  /** Forgets an executor that can't be reached. */
  async #watching<T>(call: Promise<T>): Promise<T> {
    try {
      return await call;
    } catch (error) {
      if (error instanceof AppError && error.code === "executor_unavailable") this.#executor = null;
      throw error;
    }
  }
}
