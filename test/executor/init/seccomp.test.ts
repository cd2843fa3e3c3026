import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { Init, PLACES } from "./fixture.ts";

/** Defines `call(number, ...)`: the name of the error, or "ok". */
const CALL = `
import ctypes, errno, os, signal, socket, sys
lib = ctypes.CDLL(None, use_errno=True)
def call(number, *arguments):
    result = lib.syscall(ctypes.c_long(number), *map(ctypes.c_long, arguments))
    return 'ok' if result >= 0 else errno.errorcode[ctypes.get_errno()]
def opened(*arguments):
    try: socket.socket(*arguments).close()
    except OSError as error: return errno.errorcode[error.errno]
    return 'ok'
`;

/** Numbers on x86-64. */
const DENIED = {
  mount: 165,
  umount2: 166,
  pivot_root: 155,
  chroot: 161,
  open_tree: 428,
  move_mount: 429,
  fsopen: 430,
  fsconfig: 431,
  fsmount: 432,
  fspick: 433,
  mount_setattr: 442,
  unshare: 272,
  setns: 308,
  ptrace: 101,
  process_vm_readv: 310,
  process_vm_writev: 311,
  kcmp: 312,
  pidfd_getfd: 438,
  keyctl: 250,
  add_key: 248,
  request_key: 249,
  bpf: 321,
  perf_event_open: 298,
  userfaultfd: 323,
  io_uring_setup: 425,
  io_uring_enter: 426,
  io_uring_register: 427,
  init_module: 175,
  finit_module: 313,
  delete_module: 176,
  kexec_load: 246,
  kexec_file_load: 320,
  reboot: 169,
  swapon: 167,
  swapoff: 168,
  acct: 163,
  syslog: 103,
  quotactl: 179,
  sethostname: 170,
  setdomainname: 171,
  iopl: 172,
  ioperm: 173,
  vhangup: 153,
  clock_settime: 227,
  clock_adjtime: 305,
  settimeofday: 164,
  adjtimex: 159,
  open_by_handle_at: 304,
  name_to_handle_at: 303,
  fanotify_init: 300,
  modify_ldt: 154,
};

const IS_X64 = process.arch === "x64";

describe.each([...PLACES])("the filter of a %s init", (place) => {
  let init: Init;
  beforeAll(async () => void (init = await Init.start(place)));
  afterAll(async () => void (await init.close()));

  /** What Python prints for each expression, by line. */
  async function values(expressions: string[], setup = ""): Promise<string[]> {
    const prints = expressions.map((expression) => `print(${expression})`);
    const ended = await init.exit(init.python([CALL, setup, ...prints].join("\n")));
    expect(ended).toMatchObject({ stderr: "", status: 0 });
    return ended.stdout.trimEnd().split("\n");
  }

  test("is in force, without new privileges", async () => {
    const { stdout } = await init.exit(init.sh("grep -E '^(NoNewPrivs|Seccomp):' /proc/self/status"));
    expect(stdout).toBe("NoNewPrivs:\t1\nSeccomp:\t2\n");
  });

  test.skipIf(!IS_X64)("denies what changes the walls or the machine", async () => {
    const calls = Object.entries(DENIED).map(([name, number]) => `'${name}', call(${number}, 0, 0, 0, 0, 0)`);
    expect(await values(calls)).toEqual(Object.keys(DENIED).map((name) => `${name} EPERM`));
  });

  test.skipIf(!IS_X64)("denies new namespaces however they are asked for", async () => {
    const flags = [0x10000000, 0x20000, 0x20000000, 0x40000000, 0x8000000, 0x4000000, 0x2000000];
    const calls = flags.map((flag) => `call(56, ${flag} | 17, 0, 0, 0, 0)`);
    expect(await values(calls)).toEqual(flags.map(() => "EPERM"));
    expect(await values(["call(435, 0, 0)"])).toEqual(["ENOSYS"]);
  });

  test.skipIf(!IS_X64)("denies raw and unusual sockets, also with other bits set", async () => {
    const raw = [2, 10, 1].flatMap((family) =>
      [3, 3 | 0x80000, 3 | 0x800, 3 | 0x80800].map((type) => `call(41, ${family}, ${type}, 1)`),
    );
    expect(await values(raw)).toEqual(raw.map(() => "EPERM"));
    const families = [0, 3, 4, 9, 15, 17, 21, 29, 31, 38, 40, 44, 45, 99, 2 ** 32 + 17, 2 ** 32 + 38];
    const opened = families.map((family) => `call(41, ${family}, 3, 0), call(41, ${family}, 1, 0)`);
    expect(await values(opened)).toEqual(families.map(() => "EAFNOSUPPORT EAFNOSUPPORT"));
    const usual = ["socket.AF_UNIX", "socket.AF_INET", "socket.AF_INET6"].map((family) => `opened(${family})`);
    usual.push("opened(socket.AF_INET, socket.SOCK_DGRAM)", "opened(socket.AF_NETLINK, socket.SOCK_RAW)");
    expect(await values(usual)).toEqual(usual.map(() => "ok"));
  });

  test.skipIf(!IS_X64)("denies typing for a terminal, and devices", async () => {
    const setup = "f = os.open('/dev/null', os.O_RDWR)\npath = b'/tmp/device-%d' % os.getpid()";
    const calls = [
      ...["0x5412", "0x541c", "0x100005412"].map((number) => `call(16, f, ${number}, 0)`),
      ...["0o20666", "0o60666", "0x100000000 | 0o20666"].map(
        (mode) => `call(133, ctypes.cast(path, ctypes.c_void_p).value, ${mode}, 259)`,
      ),
      "call(259, -100, ctypes.cast(path, ctypes.c_void_p).value, 0o20666, 259)",
      "os.mkfifo(path) or os.unlink(path) or 'ok'",
    ];
    expect(await values(calls, setup)).toEqual([...calls.slice(1).map(() => "EPERM"), "ok"]);
  });

  test.skipIf(!IS_X64)("lets a process adopt orphans, and not stop it", async () => {
    const calls = ["call(157, 36, 1, 0, 0, 0)", "call(157, 36, 0, 0, 0, 0)", "call(157, 2 ** 32 + 36, 0, 0, 0, 0)"];
    expect(await values(calls)).toEqual(["ok", "EPERM", "EPERM"]);
  });

  test.skipIf(!IS_X64)("ends processes that use other numbers of calls", async () => {
    const x32 = await init.exit(init.python(`${CALL}\ncall(0x40000000 + 39)`));
    expect(x32.status & 0x7f).toBe(31);
    // mov eax, 20; int 0x80; ret
    const code = `
import ctypes, mmap
page = mmap.mmap(-1, 4096, prot=7)
page.write(bytes.fromhex('b814000000cd80c3'))
ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()`;
    expect((await init.exit(init.python(code))).status & 0x7f).toBe(31);
  });

  test("lets programs fork, run threads, poll and keep memory in files", async () => {
    const setup = `
import select, subprocess, threading, time
thread = threading.Thread(target=lambda: None)
thread.start(); thread.join()
pidfd = os.pidfd_open(os.getpid())
memory = os.memfd_create('m')
poll = select.epoll(); poll.register(pidfd, 1)`;
    const calls = ["subprocess.run(['/bin/echo', 'child'], capture_output=True).stdout", "poll.poll(0)"];
    expect(await values(calls, setup)).toEqual(["b'child\\n'", "[]"]);
  });

  // Root reads all outside of a jail.
  test.skipIf(place === "plain" && process.getuid?.() === 0)("leaves init closed to programs", async () => {
    const setup = `
def refused(use):
    try: use()
    except OSError as error: return errno.errorcode[error.errno]
    return 'ok'
init = os.getppid()`;
    const uses = ["mem", "environ", "maps"].map(
      (name) => `refused(lambda: open(f'/proc/{init}/${name}', 'rb').read(1))`,
    );
    uses.push("refused(lambda: os.open(f'/proc/{init}/fd/1', os.O_WRONLY))");
    expect(await values(uses, setup)).toEqual(uses.map(() => "EACCES"));
  });

  test.skipIf(place === "plain")("is process 1, which no program ends or stops", async () => {
    await values(["[os.kill(1, number) for number in (1, 2, 9, 11, 15, 19, 20)]"]);
    await init.ping();
  });
});
