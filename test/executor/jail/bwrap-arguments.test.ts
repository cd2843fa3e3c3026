import { expect, test } from "bun:test";
import { bwrapArguments, type JailLayout } from "../../../src/executor/jail/bwrap-arguments.ts";

const LAYOUT: JailLayout = {
  rootfs: null,
  workspaceDir: "/data/workspaces/s1",
  runtimeDir: "/data/runtime/v/sandbox",
  layersDir: "/data/layers",
  egressDir: undefined,
  etcDir: "/data/runtime/etc-v",
  sharedEtc: ["/etc/ssl/certs"],
  bun: "/usr/local/bin/sandbox",
  tmpBytes: 1000,
  shmBytes: 500,
  canDisableUserns: true,
  processLimit: null,
  maskedDirectories: ["/proc/acpi"],
  maskedFiles: ["/proc/kcore"],
};

/** One option a line, as a reader wants it. */
function lines(layout: JailLayout): string[] {
  const words = bwrapArguments(layout, [
    ["bin", "usr/bin"],
    ["lib64", "usr/lib64"],
    ["vmlinuz", "usr/boot/vmlinuz"],
  ]);
  return words.join(" ").split(/ (?=--)/);
}

const ISOLATED = [
  "--unshare-all",
  "--unshare-user",
  "--uid 1000",
  "--gid 1000",
  "--disable-userns",
  "--die-with-parent",
  "--new-session",
  "--as-pid-1",
  "--clearenv",
  "--cap-drop ALL",
  "--hostname sandbox",
];
const MOUNTED = [
  "--proc /proc",
  "--ro-bind /proc/sys /proc/sys",
  "--tmpfs /proc/acpi",
  "--remount-ro /proc/acpi",
  "--ro-bind /dev/null /proc/kcore",
  "--dev /dev",
  "--size 500",
  "--tmpfs /dev/shm",
  "--remount-ro /dev",
  "--size 1000",
  "--perms 1777",
  "--tmpfs /tmp",
  "--ro-bind /data/runtime/v/sandbox /.sandbox",
  "--ro-bind /usr/local/bin/sandbox /.sandbox/bun",
  "--ro-bind /data/layers /.layers",
  "--bind /data/workspaces/s1 /workspace",
  "--chdir /workspace",
  "--remount-ro /",
  "-- /.sandbox/init init",
];

test("the host's own /usr", () => {
  expect(lines(LAYOUT)).toEqual([
    ...ISOLATED,
    "--ro-bind /usr /usr",
    "--symlink usr/bin /bin",
    "--symlink usr/lib64 /lib64",
    "--ro-bind /data/runtime/etc-v /etc",
    "--ro-bind /etc/ssl/certs /etc/ssl/certs",
    "--dir /var/tmp",
    "--dir /run",
    "--dir /home",
    ...MOUNTED,
  ]);
});

test("a root file system of its own: nothing of the host's is seen", () => {
  expect(lines({ ...LAYOUT, rootfs: "/data/images/x/rootfs" })).toEqual([
    ...ISOLATED,
    "--ro-bind /data/images/x/rootfs /",
    ...MOUNTED,
  ]);
});

test("a way out is a directory with a socket, where there is one", () => {
  expect(lines({ ...LAYOUT, egressDir: "/data/egress/s1" })).toContain("--ro-bind /data/egress/s1 /.egress");
});

test("a limit of processes is init's to set, where the kernel counts them by namespace", () => {
  expect(lines({ ...LAYOUT, processLimit: 64 }).at(-1)).toBe("--rlimit NPROC=64");
});

test("an old bubblewrap or kernel gets no option that it does not have", () => {
  expect(lines({ ...LAYOUT, canDisableUserns: false })).not.toContain("--disable-userns");
});
