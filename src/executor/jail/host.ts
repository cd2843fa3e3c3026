import { existsSync, readdirSync, readFileSync, readlinkSync, statSync } from "node:fs";
import type { Check } from "../protocol.ts";

/** What a jail needs of this host, looked up once. */
export type Host = {
  bwrap: string;
  canDisableUserns: boolean;
  /** Top-level links into /usr. */
  usrLinks: [name: string, target: string][];
  maskedDirectories: string[];
  maskedFiles: string[];
};

/** Kernel interfaces that tell of the host or its hardware and that no program needs. */
const MASKED_DIRECTORIES = ["acpi", "asound", "bus", "dma", "driver", "fs", "irq", "scsi"];
const MASKED_FILES =
  "config.gz iomem ioports kallsyms kcore keys key-users kmsg kpagecgroup kpagecount kpageflags latency_stats mtrr pagetypeinfo sched_debug slabinfo sysrq-trigger timer_list timer_stats vmallocinfo".split(
    " ",
  );
/** First minor version of bubblewrap 0 with --disable-userns. */
const MIN_MINOR = 8;

/** Throws an Error that says what to install when jails can't be made. */
export async function inspectHost(): Promise<Host> {
  const bwrap = Bun.which("bwrap");
  if (bwrap === null) throw new Error("bwrap is missing: install the package bubblewrap");
  const run = Bun.spawn([bwrap, "--version"], { stdout: "pipe", stderr: "ignore" });
  const [, major = "0", minor = "0"] = /(\d+)\.(\d+)/.exec(await new Response(run.stdout).text()) ?? [];
  if (major === "0" && Number(minor) < MIN_MINOR)
    throw new Error(`bubblewrap ${major}.${minor} is too old: 0.${MIN_MINOR} or later is needed`);
  return {
    bwrap,
    canDisableUserns: existsSync("/proc/sys/user/max_user_namespaces"),
    usrLinks: readdirSync("/", { withFileTypes: true })
      .filter((entry) => entry.isSymbolicLink())
      .map((entry): [string, string] => [entry.name, readlinkSync(`/${entry.name}`)])
      .filter(([, target]) => /^\/?usr\//.test(target)),
    maskedDirectories: MASKED_DIRECTORIES.map((name) => `/proc/${name}`).filter(isDirectory),
    maskedFiles: MASKED_FILES.map((name) => `/proc/${name}`).filter((path) => existsSync(path) && !isDirectory(path)),
  };
}

function isDirectory(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() === true;
}

/** What of isolation depends on the kernel and the user of the service alone. */
export function hostChecks(): Check[] {
  const asRoot = process.getuid?.() === 0;
  const users = asRoot ? "each sandbox has a host user of its own" : "sandboxes run as the user of the service";
  return [
    { name: "kernel", ok: true, found: readFileSync("/proc/sys/kernel/osrelease", "utf8").trim() },
    { name: "users", ok: true, found: users },
  ];
}
