import { ConfigError, type Config } from "../config.ts";
import { databaseUrl } from "../home.ts";
import { missing, ok, weaker, type Finding } from "./doctor-finding.ts";

/** How far the clocks of other machines are ahead of this one's, in milliseconds, by what they are. */
export type ClockLeads = Map<string, number>;

/** From here on leases, tokens and signatures of requests become unsafe, in milliseconds. */
const MAX_LEAD_MS = 5000;
/** Certificates and signatures of today are not valid before this. */
const EARLIEST_MS = Date.parse("2025-01-01T00:00:00Z");
const DATE_MS = 3000;

/** The records, wherever DATABASE_URL has them. */
export async function database(config: Config, leads: ClockLeads): Promise<Finding> {
  const name = "database";
  try {
    if (config.database.kind === "sqlite") {
      const { inspectSqlite } = await import("../stores/sqlite.ts");
      return ok(name, inspectSqlite(config.database.path));
    }
    const { inspectMysql } = await import("../stores/mysql.ts");
    const { found, serverMs } = await inspectMysql(databaseUrl(config, config.database.url));
    leads.set("the database", serverMs - Date.now());
    return ok(name, found);
  } catch (error) {
    if (error instanceof ConfigError) return databaseFailure(name, error.message);
    throw error;
  }
}

/** Messages of the store end with what helps, where one thing does. */
function databaseFailure(name: string, message: string): Finding {
  const [, found, remedy] = /^(.*?): ((?:GRANT|CREATE|ALTER|start the newer) .*)$/s.exec(message) ?? [];
  if (found !== undefined && remedy !== undefined) return missing(name, found, remedy);
  const credentials = "correct user and password in DATABASE_URL (or DATABASE_PASSWORD)";
  const address =
    "start the server, or correct host and port in DATABASE_URL; look for a firewall or NetworkPolicy between";
  if (message.includes("is damaged")) return missing(name, message, "restore it from a backup");
  if (message.includes("refuses user")) return missing(name, message, credentials);
  if (message.includes("can't be reached")) return missing(name, message, address);
  return missing(name, message, "correct DATABASE_URL, or the server's configuration");
}

/** The object store of S3_ENDPOINT_URL, by an object that is written and removed. */
export async function objectStore({ s3 }: Config, leads: ClockLeads): Promise<Finding[]> {
  if (s3 === null) return [];
  const name = "object store";
  const dated = fetch(s3.endpointUrl, { method: "HEAD", redirect: "manual", signal: AbortSignal.timeout(DATE_MS) });
  const serverMs = await dated.then((answer) => Date.parse(answer.headers.get("date") ?? "")).catch(() => Number.NaN);
  if (!Number.isNaN(serverMs)) leads.set("the object store", serverMs - Date.now());
  try {
    const { inspectS3 } = await import("../objects/s3.ts");
    return [ok(name, await inspectS3(s3))];
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    const isAway = error.message.includes("can't be reached");
    const address = "start the store, or correct S3_ENDPOINT_URL; look for a firewall or NetworkPolicy between";
    const rights = "correct S3_ACCESS_KEY_ID, S3_SECRET_ACCESS_KEY, S3_REGION or S3_BUCKET, or the key's policy";
    return [missing(name, error.message, isAway ? address : rights)];
  }
}

/** This machine's clock against those that the looks before met: to a second, since HTTP tells no more. */
export function clock(leads: ClockLeads): Finding {
  const name = "clock";
  const now = new Date();
  if (now.getTime() < EARLIEST_MS) return missing(name, now.toISOString(), "set the clock: timedatectl set-ntp true");
  const apart = [...leads].filter(([, leadMs]) => Math.abs(leadMs) > MAX_LEAD_MS);
  if (apart.length > 0) {
    const found = apart.map(([who, leadMs]) => `${who} is ${described(leadMs)}`).join(", ");
    return weaker(name, `${now.toISOString()}; ${found}`, "let NTP set the clock of both: timedatectl set-ntp true");
  }
  const agreed =
    leads.size === 0 ? "" : `, within ${MAX_LEAD_MS / 1000} s of that of ${[...leads.keys()].join(" and ")}`;
  return ok(name, `${now.toISOString().slice(0, 19)}Z${agreed}`);
}

function described(leadMs: number): string {
  return `${Math.abs(Math.round(leadMs / 1000))} s ${leadMs > 0 ? "ahead" : "behind"}`;
}
