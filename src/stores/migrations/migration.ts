import { ConfigError } from "../../config.ts";

/** One step of the schema. Versions count from 1 without gaps; a step that was released never changes. */
export type Migration = { version: number; name: string; sql: string };

/** The steps that a database at `current` (0: empty) still needs. Refuses one that a newer program has written. */
export function pendingMigrations(all: readonly Migration[], current: number): readonly Migration[] {
  const newest = all.at(-1)?.version ?? 0;
  if (current > newest)
    throw new ConfigError(
      `DATABASE_URL: the database has schema version ${current}, this program knows versions up to ${newest}: start the newer program again`,
    );
  return all.filter((one) => one.version > current);
}
