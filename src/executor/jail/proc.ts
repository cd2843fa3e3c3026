import { readdirSync, readFileSync } from "node:fs";

/** The text of a file of /proc; empty for a process that has gone, or may not be looked at. */
export function contents(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}

/** The names in a directory of /proc; none for a process that has gone, or may not be looked at. */
export function namesIn(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}

/** Kills a process (SIGKILL) unless it has ended by itself. */
export function killIfThere(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // It has ended.
  }
}
