import { deniedCall, python, type HostileProgram } from "./program.ts";

const CLONE_NEWUSER = 0x10000000;
const CLONE_NEWNS = 0x20000;

/** Calls that reach the kernel's wide or privileged surface; each must fail. */
export const SYSTEM_CALLS: readonly HostileProgram[] = [
  deniedCall("mount", [165, 40], `b"none", b"/tmp", b"tmpfs", 0, 0`, "no mounts"),
  deniedCall("remount-root-writable", [165, 40], `0, b"/", 0, 0x20 | 0x1000, 0`, "the root stays read-only"),
  deniedCall("umount2", [166, 39], `b"/proc", 2`, "no unmounts"),
  deniedCall("pivot_root", [155, 41], `b"/", b"/tmp"`, "the root can't be changed"),
  deniedCall("chroot", [161, 51], `b"/tmp"`, "the root can't be changed"),
  deniedCall("open_tree", [428, 428], `-100, b"/", 1`, "no mounts by the new interface"),
  deniedCall("fsopen", [430, 430], `b"tmpfs", 0`, "no mounts by the new interface"),
  deniedCall("mount_setattr", [442, 442], `-100, b"/", 0, 0, 0`, "mount flags can't be changed"),
  deniedCall(
    "unshare-user-namespace",
    [272, 97],
    `${CLONE_NEWUSER}`,
    "no new user namespace, so no capabilities in one",
  ),
  deniedCall("unshare-mount-namespace", [272, 97], `${CLONE_NEWNS}`, "no new mount namespace"),
  deniedCall("clone3", [435, 435], `b"\\0" * 88, 88`, "no process by the call whose flags a filter can't read"),
  python(
    "system calls",
    "clone-user-namespace",
    "no new user namespace by clone",
    `
result, error = call(nr(56, 220), ${CLONE_NEWUSER} | 17, 0, 0, 0, 0)
if result == 0: os._exit(0)
tried(result, error)
if result > 0: escaped("clone made a user namespace")`,
  ),
  python(
    "system calls",
    "setns",
    "no entering of namespaces",
    `
fd = os.open("/proc/self/ns/mnt", os.O_RDONLY)
result, error = call(nr(308, 268), fd, 0)
tried(result, error)
if result == 0: escaped("setns")`,
  ),
  deniedCall("ptrace-traceme", [101, 117], `0, 0, 0, 0`, "no tracing"),
  python(
    "system calls",
    "ptrace-attach-init",
    "no tracing of init",
    `
result, error = call(nr(101, 117), 16, 1, 0, 0)
tried(result, error)
if result == 0: escaped("attached to init")`,
  ),
  python(
    "system calls",
    "process-vm-read-init",
    "no reading of init's memory",
    `
class iov(ctypes.Structure): _fields_ = [("base", ctypes.c_void_p), ("len", ctypes.c_size_t)]
buf = ctypes.create_string_buffer(8)
local, remote = iov(ctypes.addressof(buf), 8), iov(0x400000, 8)
result, error = call(nr(310, 270), 1, ctypes.byref(local), 1, ctypes.byref(remote), 1, 0)
tried(result, error)
if result > 0: escaped("read init's memory")`,
  ),
  deniedCall("keyctl", [250, 219], `0, -3, 1`, "no kernel keyrings"),
  deniedCall("add_key", [248, 217], `b"user", b"x", b"y", 1, -3`, "no kernel keyrings"),
  deniedCall("request_key", [249, 218], `b"user", b"x", 0, -3`, "no kernel keyrings"),
  deniedCall("bpf", [321, 280], `0, b"\\0" * 128, 128`, "no BPF"),
  deniedCall("perf_event_open", [298, 241], `b"\\0" * 128, 0, -1, -1, 0`, "no performance counters"),
  deniedCall("userfaultfd", [323, 282], `0`, "no userfaultfd"),
  deniedCall("userfaultfd-user-mode", [323, 282], `1`, "no userfaultfd"),
  deniedCall("io_uring_setup", [425, 425], `4, b"\\0" * 128`, "no io_uring"),
  deniedCall("init_module", [175, 105], `b"x", 1, b""`, "no kernel modules"),
  deniedCall("finit_module", [313, 273], `0, b"", 0`, "no kernel modules"),
  deniedCall("kexec_load", [246, 104], `0, 0, 0, 0`, "no other kernel"),
  deniedCall("reboot", [169, 142], `0xfee1dead, 672274793, 0, 0`, "no restart of the host"),
  deniedCall("swapon", [167, 224], `b"/workspace/x", 0`, "no swap"),
  deniedCall("acct", [163, 89], `b"/workspace/x"`, "no process accounting"),
  deniedCall(
    "open_by_handle_at",
    [304, 265],
    `-100, b"\\x08\\0\\0\\0\\x01\\0\\0\\0\\x02\\0\\0\\0\\0\\0\\0\\0", 0`,
    "no opening of files past their path",
  ),
  deniedCall("clock_settime", [227, 112], `0, b"\\0" * 16`, "the clock can't be set"),
  deniedCall("settimeofday", [164, 170], `b"\\0" * 16, 0`, "the clock can't be set"),
  deniedCall("syslog", [103, 116], `3, b"\\0" * 64, 64`, "the kernel's log can't be read"),
  deniedCall("quotactl", [179, 60], `0x80000700, b"/dev/vda", 0, 0`, "no quota changes"),
  deniedCall("sethostname", [170, 161], `b"evil", 4`, "the host name can't be changed"),
  deniedCall("mknod-device", [133, -1], `b"/workspace/sda", 0o60666, 0x800`, "no device nodes"),
  deniedCall("setuid-root", [105, 146], `0`, "no other user"),
  deniedCall("lookup_dcookie-or-nfsservctl", [212, 18], `0, 0, 0`, "no obsolete calls"),
];
