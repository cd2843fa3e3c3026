import { AppError } from "./errors.ts";
import type { Check } from "./executor/protocol.ts";
import type { Vitals } from "./http/health.ts";
import type { Home } from "./home.ts";
import type { Scheduler } from "./scheduler/scheduler.ts";

export type VitalsDeps = {
  version: string;
  home: Pick<Home, "sql" | "objects" | "provisioner">;
  scheduler: Scheduler;
};

/** A hash that no blob has: asking for it reaches the store all the same. */
const NO_BLOB = "0".repeat(64);

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
    const { sql, objects, provisioner } = this.#d.home;
    const database = check("database", async () => {
      await sql.query("SELECT 1 AS one");
      return sql.dialect.name;
    });
    const blobs = check("objects", async () => {
      await objects.has(NO_BLOB);
      return "reachable";
    });
    const sandboxes = check("sandboxes", async () => `${(await provisioner.list()).size} kept`);
    const own = provisioner.checks?.().catch(() => []) ?? Promise.resolve([]);
    return [await database, await blobs, await sandboxes, ...(await own)];
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
