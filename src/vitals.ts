import { AppError } from "./errors.ts";
import type { Check } from "./executor/protocol.ts";
import type { Vitals } from "./http/health.ts";
import type { LocalProvisioner } from "./provisioners/local/local-provisioner.ts";
import type { Scheduler } from "./scheduler/scheduler.ts";
import type { Sql } from "./stores/sql.ts";

export type VitalsDeps = { version: string; sql: Sql; provisioner: LocalProvisioner; scheduler: Scheduler };

/** How the service is, by asking its parts. */
export class ServiceVitals implements Vitals {
  readonly #d: VitalsDeps;
  readonly #startedAt = performance.now();
  readonly version: string;
  /** Why it takes no work now, or null. */
  state: string | null = "starting";

  constructor(deps: VitalsDeps) {
    this.#d = deps;
    this.version = deps.version;
  }

  uptimeS(): number {
    return (performance.now() - this.#startedAt) / 1000;
  }

  unready(): string | null {
    return this.state;
  }

  async checks(): Promise<Check[]> {
    const database = check("database", async () => {
      await this.#d.sql.query("SELECT 1 AS one");
      return this.#d.sql.dialect.name;
    });
    let isolation: Check[] = [];
    const executor = check("executor", async () => {
      const health = await (await this.#d.provisioner.executorOf()).health();
      isolation = health.isolation;
      return `pid ${health.pid}, ${health.sandboxes} sandboxes, ${health.runningExecutions} running`;
    });
    return [await database, await executor, ...isolation];
  }

  async sync(): Promise<Record<string, number>> {
    await this.#d.scheduler.resync();
    return {};
  }
}

async function check(name: string, look: () => Promise<string>): Promise<Check> {
  try {
    return { name, ok: true, found: await look() };
  } catch (error) {
    return { name, ok: false, found: error instanceof AppError ? error.message : "no answer" };
  }
}
