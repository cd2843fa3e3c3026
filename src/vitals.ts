import { AppError } from "./errors.ts";
import type { Check } from "./executor/protocol.ts";
import type { Vitals } from "./http/health.ts";
import type { Home } from "./home.ts";
import type { Objects } from "./objects/objects.ts";
import type { Scheduler } from "./scheduler/scheduler.ts";
import { within } from "./within.ts";

export type VitalsDeps = {
  version: string;
  home: Pick<Home, "sql" | "objects" | "provisioner">;
  scheduler: Scheduler;
};

/** How long a check may take before it has failed, in milliseconds. */
const CHECK_MS = 5000;

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

  /** Each by using the thing, and none for longer than CHECK_MS. */
  async checks(): Promise<Check[]> {
    const { sql, objects, provisioner } = this.#d.home;
    const asked = [
      check("database", async () => {
        // A write, which also a database that can only be read from refuses, of a row that nobody else sees or has.
        const row = -1 - Math.floor(Math.random() * 2 ** 31);
        await sql.batch([
          { sql: "INSERT INTO schema_migrations (version, name, applied_at) VALUES (?, 'check', '')", values: [row] },
          { sql: "DELETE FROM schema_migrations WHERE version = ?", values: [row] },
        ]);
        return [passed("database", sql.dialect.name)];
      }),
      check("objects", async () => [passed("objects", await roundTrip(objects))]),
      check("sandboxes", async () => [passed("sandboxes", `${(await provisioner.list()).size} kept`)]),
      check("executor", async () => (await provisioner.checks?.()) ?? []),
    ];
    return (await Promise.all(asked)).flat();
  }

  async sync(): Promise<Record<string, number>> {
    await this.#d.scheduler.resync();
    return {};
  }
}

function passed(name: string, found: string): Check {
  return { name, ok: true, found };
}

async function check(name: string, look: () => Promise<Check[]>): Promise<Check[]> {
  try {
    const late = { name, ok: false, found: `no answer in ${CHECK_MS / 1000} s` };
    return (await within(CHECK_MS, look())) ?? [late];
  } catch (error) {
    return [{ name, ok: false, found: error instanceof AppError ? error.message : "it failed" }];
  }
}

/** Stores, reads and deletes a few bytes that nobody else has. */
async function roundTrip(objects: Objects): Promise<string> {
  const bytes = crypto.getRandomValues(new Uint8Array(32));
  const { sha256 } = await objects.put(new Blob([bytes]).stream());
  try {
    const blob = await objects.get(sha256);
    const read = blob === null ? null : await new Response(blob.body).bytes();
    if (read === null || Buffer.compare(read, bytes) !== 0)
      throw new AppError("store_unavailable", "what was stored can't be read");
  } finally {
    await objects.delete(sha256);
  }
  return "stored, read and deleted";
}
