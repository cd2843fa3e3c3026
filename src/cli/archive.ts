import { closeSync, fsyncSync, openSync } from "node:fs";
import { ConfigError } from "../config.ts";

/** Name of the description and of the database in an archive; the other entries are directories of the data directory. */
export const DESCRIPTION = "backup.json";
export const DATABASE = "sandbox.db";
/** Directories of a backup: neither what can be made again, nor journals, whose content the records have. */
export const KEPT_DIRECTORIES = ["objects", "workspaces", "images", "audit"] as const;

/** What a backup says of itself. */
export type BackupDescription = { format: 1; version: string; created_at: string };

export type Part = { from: string; names: readonly string[] };

/**
 * Leaves out paths that are too long for one system call, since they could not be unpacked. A sandbox can make them by
 * entering one directory after the other, and must not spoil everybody's backup.
 */
const TOO_LONG = `--exclude=${"?".repeat(4000)}*`;

/** tar's code for files that changed while they were read. */
const CHANGED = 1;

/** Writes a tar archive, compressed as the end of its name says. False when files changed while they were read. */
export async function writeArchive(file: string, parts: readonly Part[]): Promise<boolean> {
  const options = ["--create", "--numeric-owner", "--sparse", "--auto-compress", `--file=${file}`];
  const skipped = ["--exclude=workspaces/.incoming", "--exclude=workspaces/.once-*"];
  const places = parts.flatMap(({ from, names }) => (names.length === 0 ? [] : ["-C", from, ...names]));
  closeSync(openSync(file, "wx", 0o600));
  const code = await tar([...options, ...skipped, TOO_LONG, "--ignore-failed-read", ...places], file, CHANGED);
  const fd = openSync(file, "r");
  fsyncSync(fd);
  closeSync(fd);
  return code === 0;
}

/** Unpacks one with owners and modes as they were, as far as this user can. */
export async function readArchive(file: string, into: string): Promise<void> {
  await tar(
    ["--extract", "--numeric-owner", "--preserve-permissions", TOO_LONG, `--file=${file}`, "-C", into],
    file,
    0,
  );
}

async function tar(words: string[], file: string, highestCode: number): Promise<number> {
  if (Bun.which("tar") === null) throw new ConfigError("tar is not installed: backups need GNU tar");
  // Lengths are in bytes, and names are not always characters.
  const env = { ...process.env, LC_ALL: "C" };
  const run = Bun.spawn(["tar", "--force-local", ...words], { stdin: "ignore", stdout: "ignore", stderr: "pipe", env });
  const said = await new Response(run.stderr).text();
  const code = await run.exited;
  const reason = said.trim().split("\n").at(0) ?? "";
  if (code > highestCode) throw new ConfigError(`${file}: ${reason === "" ? `tar ended with ${code}` : reason}`);
  return code;
}
