import { readFileSync, readlinkSync } from "node:fs";
import type { Check } from "../protocol.ts";

/** Namespaces that every sandbox has of its own, as /proc/PID/ns names them. */
const NAMESPACES = ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"] as const;
const CAPABILITIES = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] as const;

/** What bubblewrap says when the host does not let it make a sandbox, and what then helps. */
const REMEDIES: readonly [pattern: RegExp, remedy: string][] = [
  [
    /setting up uid map|loopback: Failed|Failed RTM_NEWADDR/,
    "AppArmor keeps users from making namespaces: give bwrap a profile that permits userns, or set the sysctl kernel.apparmor_restrict_unprivileged_userns=0",
  ],
  [
    /No permissions to creat|Creating new namespace failed|clone|unshare|ENOSPC|No space left/i,
    "users may not make namespaces here: set the sysctls user.max_user_namespaces=100000 and, where there is one, kernel.unprivileged_userns_clone=1",
  ],
  [
    /mount proc/i,
    "the surrounding container masks /proc: start it with unmasked system paths (docker: --security-opt systempaths=unconfined)",
  ],
  [
    /Can't find source path|Permission denied/,
    "users other than the service's must be able to reach DATA_DIR: chmod o+x the directories above it",
  ],
];

/** What an ended jail said, with what helps, on one line. */
export function explain(stderr: string): string {
  const said = stderr.trim().split("\n").slice(0, 3).join("; ") || "it ended without a word";
  const remedy = REMEDIES.find(([pattern]) => pattern.test(said))?.[1];
  return `sandboxes can't be made here: ${said}${remedy === undefined ? "" : `: ${remedy}`}`;
}

/**
 * What isolates a started sandbox, as the kernel shows it on the outside: `pid` is its init on the host. A check that is
 * not ok names what is not in force.
 */
export function inspectInit(pid: number, hostUid: number | null): Check[] {
  const shared = NAMESPACES.filter((name) => namespaceOf(pid, name) === namespaceOf(process.pid, name));
  const status = statusOf(pid);
  const held = CAPABILITIES.filter((name) => Number.parseInt(status.get(name) ?? "1", 16) !== 0);
  const uid = Number(status.get("Uid")?.split("\t")[0] ?? 0);
  const expected = hostUid ?? process.getuid?.() ?? -1;
  return [
    {
      name: "namespaces",
      ok: shared.length === 0,
      found: shared.length === 0 ? NAMESPACES.join(", ") : `shared with the host: ${shared.join(", ")}`,
    },
    { name: "capabilities", ok: held.length === 0, found: held.length === 0 ? "none" : `held in ${held.join(", ")}` },
    is("no new privileges", status.get("NoNewPrivs") === "1"),
    is("seccomp", status.get("Seccomp") === "2"),
    {
      name: "users",
      ok: uid === expected && uid !== 0,
      found:
        hostUid === null
          ? "sandboxes run as the user of the service"
          : `each sandbox has a host user of its own, this one ${uid}`,
      ...(hostUid === null ? { remedy: "start the service as root for a user to each sandbox" } : {}),
    },
  ];
}

function is(name: string, ok: boolean): Check {
  return { name, ok, found: ok ? "in force" : "not in force" };
}

/** A namespace that may not be looked at counts as one's own, so that the check fails. */
function namespaceOf(pid: number, name: string): string {
  try {
    return readlinkSync(`/proc/${pid}/ns/${name}`);
  } catch {
    return readlinkSync(`/proc/self/ns/${name}`);
  }
}

function statusOf(pid: number): Map<string, string> {
  const lines = readFileSync(`/proc/${pid}/status`, "utf8").split("\n");
  return new Map(
    lines.map((line): [string, string] => [line.split(":")[0] ?? "", line.slice(line.indexOf(":") + 1).trim()]),
  );
}
