import { dlopen } from "bun:ffi";
import { readdirSync, readFileSync } from "node:fs";
import { isAlive } from "./process-tree.ts";

const PR_SET_DUMPABLE = 4;
const WNOHANG = 1;
/** Signals for which the runtime has handlers that end it: ILL, TRAP, ABRT, BUS, FPE, SEGV, SYS. */
const FATAL = [4, 5, 6, 7, 8, 11, 31];

/**
 * Closes this process, which is process 1 of a container, to the code that runs beside it under the same user: no memory,
 * environment or descriptor of it can be read, and no signal but the kernel's own ends it, since process 1 takes none
 * without a handler. Throws when that can't be done: then no code may run.
 */
export function closeToOthers(): void {
  if (process.pid !== 1) throw new Error("it must be process 1 of a container of its own");
  const libc = dlopen("libc.so.6", {
    prctl: { args: ["i32", "u64", "u64", "u64", "u64"], returns: "i32" },
    signal: { args: ["i32", "u64"], returns: "u64" },
  });
  if (libc.symbols.prctl(PR_SET_DUMPABLE, 0n, 0n, 0n, 0n) !== 0) throw new Error("it can't be made undumpable");
  for (const number of FATAL) libc.symbols.signal(number, 0n);
  libc.close();
}

/**
 * Ends every other process of this PID namespace, of which this is process 1, and resolves when none is left. `ours` are
 * children that the runtime waits for; what else was left to process 1 is waited for here.
 */
export async function endAllOthers(ours: ReadonlySet<number>): Promise<void> {
  if (process.pid !== 1) throw new Error("only process 1 may end all others");
  const libc = dlopen("libc.so.6", {
    waitpid: { args: ["i32", "ptr", "i32"], returns: "i32" },
  });
  for (let pauseMs = 1; ; pauseMs = Math.min(pauseMs * 2, 50)) {
    killAllOthers();
    const others = readdirSync("/proc")
      .map(Number)
      .filter((pid) => pid > 1);
    for (const pid of others) if (!ours.has(pid) && !isAlive(pid)) libc.symbols.waitpid(pid, null, WNOHANG);
    if (!others.some((pid) => isAlive(pid))) break;
    await Bun.sleep(pauseMs);
  }
  libc.close();
}

/** The kernel leaves process 1 and the sender out. */
export function killAllOthers(): void {
  if (process.pid !== 1) throw new Error("only process 1 may end all others");
  try {
    process.kill(-1, "SIGKILL");
  } catch {
    // There is none.
  }
}

/** Fields of `/proc/self/status`, such as CapEff. */
export function ownStatus(field: string): string {
  const text = readFileSync("/proc/self/status", "utf8");
  return new RegExp(`^${field}:\\s*(.*)$`, "m").exec(text)?.[1] ?? "";
}
