import { existsSync, readdirSync, readFileSync, readlinkSync, statSync } from "node:fs";
import type { Check } from "../protocol.ts";
import { SHARED_ETC } from "./etc.ts";
import type { CgroupRoots } from "./cgroup-roots.ts";

/** What a jail needs of this host, looked up once. */
export type Host = {
  bwrap: string;
  bwrapVersion: string;
  kernel: string;
  canDisableUserns: boolean;
  /** Since Linux 5.14 the resource limit on processes counts those of a user namespace, not all of the user's. */
  countsProcessesByNamespace: boolean;
  /** Top-level links into /usr. */
  usrLinks: [name: string, target: string][];
  sharedEtc: string[];
  maskedDirectories: string[];
  maskedFiles: string[];
};

/** Kernel interfaces that tell of the host or its hardware and that no program needs. */
const MASKED_DIRECTORIES = ["acpi", "asound", "bus", "dma", "driver", "fs", "irq", "scsi"];
const MASKED_FILES =
  "config.gz interrupts iomem ioports kallsyms kcore keys key-users kmsg kpagecgroup kpagecount kpageflags latency_stats modules mtrr pagetypeinfo sched_debug slabinfo sysrq-trigger timer_list timer_stats vmallocinfo".split(
    " ",
  );
/** First minor version of bubblewrap 0 with --disable-userns. */
const MIN_MINOR = 8;

/** Throws an Error that says what to install when jails can't be made. */
export async function inspectHost(): Promise<Host> {
  const bwrap = Bun.which("bwrap", { PATH: process.env["PATH"] ?? "" });
  if (bwrap === null) throw new Error("bwrap is missing: install the package bubblewrap");
  const run = Bun.spawn([bwrap, "--version"], { stdout: "pipe", stderr: "ignore" });
  const [, major = "0", minor = "0"] = /(\d+)\.(\d+)/.exec(await new Response(run.stdout).text()) ?? [];
  if (major === "0" && Number(minor) < MIN_MINOR)
    throw new Error(`bubblewrap ${major}.${minor} is too old: 0.${MIN_MINOR} or later is needed`);
  const kernel = readFileSync("/proc/sys/kernel/osrelease", "utf8").trim();
  const [linux = 0, patch = 0] = kernel.split(".").map(Number);
  return {
    bwrap,
    bwrapVersion: `${major}.${minor}`,
    kernel,
    countsProcessesByNamespace: linux > 5 || (linux === 5 && patch >= 14),
    canDisableUserns: existsSync("/proc/sys/user/max_user_namespaces"),
    usrLinks: readdirSync("/", { withFileTypes: true })
      .filter((entry) => entry.isSymbolicLink())
      .map((entry): [string, string] => [entry.name, readlinkSync(`/${entry.name}`)])
      .filter(([, target]) => /^\/?usr\//.test(target)),
    sharedEtc: SHARED_ETC.filter(isDirectory),
    maskedDirectories: MASKED_DIRECTORIES.map((name) => `/proc/${name}`).filter(isDirectory),
    maskedFiles: MASKED_FILES.map((name) => `/proc/${name}`).filter((path) => existsSync(path) && !isDirectory(path)),
  };
}

function isDirectory(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() === true;
}

/** Versions of what makes sandboxes. */
export function hostChecks(host: Host): Check[] {
  return [
    { name: "kernel", ok: true, found: host.kernel },
    { name: "bubblewrap", ok: true, found: `${host.bwrapVersion} at ${host.bwrap}` },
  ];
}

const DELEGATE = "start the service as root, or delegate a control group to its user (systemd: Delegate=yes)";

/** Who holds each limit of a sandbox. What is weaker than it could be has a remedy. */
export function limitChecks(host: Host, cgroups: CgroupRoots): Check[] {
  const disk =
    "the kernel limits each file; a watchdog that looks five times a second, less often at large workspaces, limits their sum";
  return [
    ...(cgroups.version === 0 ? watchedChecks(host, cgroups.why) : groupChecks(cgroups)),
    { name: "disk limit", ok: true, found: disk },
  ];
}

function groupChecks(cgroups: Exclude<CgroupRoots, { version: 0 }>): Check[] {
  const found = `control group, version ${cgroups.version}`;
  const cpu = cgroups.version === 2 || cgroups.cpu !== null;
  return [
    { name: "memory limit", ok: true, found },
    { name: "process limit", ok: true, found },
    cpu ? { name: "CPU limit", ok: true, found } : { name: "CPU limit", ok: true, found: "none", remedy: DELEGATE },
  ];
}

function watchedChecks(host: Host, why: string): Check[] {
  const watchdog = "a watchdog that looks twenty times a second";
  const processes = host.countsProcessesByNamespace ? "resource limit of each sandbox's user namespace" : watchdog;
  return [
    { name: "memory limit", ok: true, found: `weaker, ${watchdog}: no control groups, ${why}`, remedy: DELEGATE },
    { name: "process limit", ok: true, found: processes, remedy: DELEGATE },
    { name: "CPU limit", ok: true, found: `none: no control groups, ${why}`, remedy: DELEGATE },
  ];
}
