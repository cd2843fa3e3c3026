import type { SqlValue } from "./sql.ts";

/** No lease lasts longer, however the clocks of the replicas differ. */
const LONGEST_MS = 5 * 60_000;

/** Condition on a row that nobody has: no lease, one that has ended, or one that only a wrong clock can have given. */
export const LEASE_IS_FREE = "(lease_owner IS NULL OR lease_expires_at <= ? OR lease_expires_at > ?)";

/** The values of its parameters at `now`. */
export function freeAt(now: string): SqlValue[] {
  return [now, laterThan(now, LONGEST_MS)];
}

/** The instant `ms` milliseconds after `at`, both ISO 8601. */
export function laterThan(at: string, ms: number): string {
  return new Date(Date.parse(at) + ms).toISOString();
}
