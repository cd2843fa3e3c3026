/** What a jail is made of. Paths are the host's, unless said otherwise. */
export type JailLayout = {
  /** Becomes `/`: a root file system; null: the host's own /usr, read-only. */
  rootfs: string | null;
  /** Becomes `/workspace`, writable. */
  workspaceDir: string;
  /** Becomes `/.sandbox`, read-only. */
  runtimeDir: string;
  /** Becomes `/.egress`, read-only, where there is one. */
  egressDir?: string | undefined;
  /** Becomes `/.layers`, read-only. */
  layersDir: string;
  /** Becomes `/etc`, read-only: a directory that was made for sandboxes, never the host's. */
  etcDir: string;
  /** Directories of the host's /etc that are seen as they are, read-only; `etcDir` has places for them. */
  sharedEtc: readonly string[];
  /** The executable, bound at `/.sandbox/bun`. */
  bun: string;
  /** Bytes of `/tmp` and of `/dev/shm`. */
  tmpBytes: number;
  shmBytes: number;
  /** Whether this bwrap has --disable-userns (0.8 and later). */
  canDisableUserns: boolean;
  /** Most processes and threads, where the kernel is to hold them by a resource limit; else null. */
  processLimit: number | null;
  /** Directories of /proc that are replaced by empty ones, and files by /dev/null, where the host's kernel has them. */
  maskedDirectories: readonly string[];
  maskedFiles: readonly string[];
};

/** User and group inside, whoever it is on the host. */
export const INSIDE_ID = 1000;

/** Top-level names that are links into /usr on a merged-/usr system, and directories elsewhere. */
const USR_LINKS = ["bin", "sbin", "lib", "lib32", "lib64", "libx32"] as const;

/**
 * Arguments of bubblewrap, with the command to run. Every namespace is new, the root is read-only, nothing of the host is
 * seen but what the layout names. `usrLinks` are the top-level links of the host that lead into /usr, by name and target.
 */
export function bwrapArguments(layout: JailLayout, usrLinks: readonly [name: string, target: string][]): string[] {
  return [
    "--unshare-all",
    "--unshare-user",
    ...["--uid", String(INSIDE_ID), "--gid", String(INSIDE_ID)],
    ...(layout.canDisableUserns ? ["--disable-userns"] : []),
    "--die-with-parent",
    "--new-session",
    "--as-pid-1",
    "--clearenv",
    ...["--cap-drop", "ALL"],
    ...["--hostname", "sandbox"],
    ...rootArguments(layout, usrLinks),
    ...["--proc", "/proc", "--ro-bind", "/proc/sys", "/proc/sys"],
    ...layout.maskedDirectories.flatMap((path) => ["--tmpfs", path, "--remount-ro", path]),
    ...layout.maskedFiles.flatMap((path) => ["--ro-bind", "/dev/null", path]),
    ...["--dev", "/dev"],
    ...["--size", String(layout.shmBytes), "--tmpfs", "/dev/shm"],
    ...["--remount-ro", "/dev"],
    ...["--size", String(layout.tmpBytes), "--perms", "1777", "--tmpfs", "/tmp"],
    ...["--ro-bind", layout.runtimeDir, "/.sandbox"],
    ...["--ro-bind", layout.bun, "/.sandbox/bun"],
    ...["--ro-bind", layout.layersDir, "/.layers"],
    ...(layout.egressDir === undefined ? [] : ["--ro-bind", layout.egressDir, "/.egress"]),
    ...["--bind", layout.workspaceDir, "/workspace"],
    ...["--chdir", "/workspace"],
    ...["--remount-ro", "/"],
    "--",
    "/.sandbox/init",
    "init",
    ...(layout.processLimit === null ? [] : ["--rlimit", `NPROC=${layout.processLimit}`]),
  ];
}

function rootArguments(layout: JailLayout, usrLinks: readonly [string, string][]): string[] {
  if (layout.rootfs !== null) return ["--ro-bind", layout.rootfs, "/"];
  return [
    ...["--ro-bind", "/usr", "/usr"],
    ...usrLinks.filter(([name]) => isUsrLink(name)).flatMap(([name, target]) => ["--symlink", target, `/${name}`]),
    ...["--ro-bind", layout.etcDir, "/etc"],
    ...layout.sharedEtc.flatMap((path) => ["--ro-bind", path, path]),
    ...["--dir", "/var/tmp", "--dir", "/run", "--dir", "/home"],
  ];
}

function isUsrLink(name: string): boolean {
  return (USR_LINKS as readonly string[]).includes(name);
}
