import { python, shell, type HostileProgram } from "./program.ts";

const GROUP = "processes";

/** Attempts on processes outside, on init, the zygote and the frames between them. */
export const PROCESSES: readonly HostileProgram[] = [
  python(
    GROUP,
    "see-host-processes",
    "only the sandbox's own processes are visible",
    `
pids = [int(p) for p in os.listdir("/proc") if p.isdigit()]
tried(len(pids))
if len(pids) > 64 or {{HOST_PID}} in pids and b"sleep" in (readable("/proc/{{HOST_PID}}/cmdline") or b""): escaped(pids)`,
  ),
  python(
    GROUP,
    "signal-host-process",
    "no signal reaches the host",
    `
for pid in ({{HOST_PID}}, {{EXECUTOR_PID}}):
    try: os.kill(pid, 9)
    except OSError: pass
tried()`,
  ),
  shell(
    GROUP,
    "signal-everything",
    "kill -1 ends at the sandbox",
    `
echo TRIED; kill -STOP -1; kill -9 -1; sleep 0.1; echo done`,
    { mayEnd: ["failed", "timeout", "crashed"], timeout: 3, mayBeSilent: true },
  ),
  python(
    GROUP,
    "kill-init",
    "init can't be killed from inside",
    `
for sig in (signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM, signal.SIGSEGV, signal.SIGABRT):
    try: os.kill(1, sig)
    except OSError: pass
time.sleep(0.2)
tried(os.path.exists("/proc/1"))`,
  ),
  shell(
    GROUP,
    "kill-zygote",
    "a killed zygote is replaced",
    `
for p in /proc/[0-9]*; do
  if tr '\\0' ' ' < $p/cmdline 2>/dev/null | grep -q '^/usr/bin/python3 .*/zygote[.]py'; then kill -9 \${p#/proc/} 2>/dev/null; fi
done; echo TRIED`,
  ),
  shell(
    GROUP,
    "stop-zygote",
    "a stopped zygote does not stop the session",
    `
for p in /proc/[0-9]*; do
  if tr '\\0' ' ' < $p/cmdline 2>/dev/null | grep -q '^/usr/bin/python3 .*/zygote[.]py'; then kill -STOP \${p#/proc/} 2>/dev/null; fi
done; echo TRIED`,
  ),
  python(
    GROUP,
    "zygote-memory",
    "the zygote's memory can't be read or written",
    `
got = []
for pid in os.listdir("/proc"):
    if not pid.isdigit() or int(pid) == os.getpid(): continue
    for mode in (os.O_RDONLY, os.O_RDWR):
        try: os.open(f"/proc/{pid}/mem", mode); got.append((pid, mode))
        except OSError: pass
tried()
if got: escaped(got)`,
  ),
  python(
    GROUP,
    "zygote-socket",
    "the zygote's socket can't be taken",
    `
got = []
for pid in os.listdir("/proc"):
    if not pid.isdigit() or int(pid) == os.getpid(): continue
    pidfd, _ = call(434, int(pid), 0)
    for fd in range(0, 8):
        result, _ = call(438, pidfd, fd, 0)
        if result >= 0: got.append((pid, fd))
tried()
if got: escaped(got)`,
  ),
  python(
    GROUP,
    "forge-frames",
    "bytes on any inherited descriptor are only output or one's own result",
    `
import struct
tried()
frame = struct.pack("<IBBHI", 8, 0x46, 0, 0, 1) + b"\\0" * 64
for fd in range(0, 32):
    try: os.write(fd, frame)
    except OSError: pass`,
    { mayEnd: ["failed"] },
  ),
  python(
    GROUP,
    "forge-result",
    "a forged result is only one's own",
    `
for fd in range(3, 16):
    try: os.write(fd, b'{"return_value": 1}{"return_value": 2}' + b"\\0" * 100)
    except OSError: pass
tried()`,
    { mayEnd: ["failed"] },
  ),
  python(
    GROUP,
    "result-flood",
    "an endless result is bounded",
    `
tried()
for fd in range(3, 16):
    try:
        for _ in range(400): os.write(fd, b"x" * 65536)
    except OSError: pass`,
    { mayEnd: ["failed", "timeout"], timeout: 5 },
  ),
  python(
    GROUP,
    "drop-subreaper",
    "processes can't leave their execution's tree by dropping its reaper",
    `
result = _libc.prctl(36, 0, 0, 0, 0)
tried(result)
if result == 0: escaped("dropped the reaper")`,
  ),
  python(
    GROUP,
    "outlive-a-timeout",
    "no process survives the timeout of its execution",
    `
import subprocess
for _ in range(20): subprocess.Popen(["setsid", "sh", "-c", "(sleep 424242 &) ; sleep 424242"], start_new_session=True)
tried()
time.sleep(60)`,
    { mayEnd: ["timeout"], timeout: 1 },
  ),
  python(
    GROUP,
    "terminal-injection",
    "no terminal takes injected input",
    `
import fcntl
done = []
for path in ("/dev/tty", "/dev/console", "/dev/pts/0"):
    try:
        fd = os.open(path, os.O_RDWR)
        fcntl.ioctl(fd, 0x5412, b"x"); done.append(path)
    except OSError: pass
master, slave = os.openpty()
try: fcntl.ioctl(slave, 0x5412, b"x"); done.append("own pty")
except OSError: pass
tried()
if done: escaped(done)`,
  ),
  python(
    GROUP,
    "priority",
    "the scheduler's favour can't be taken",
    `
done = []
try: os.nice(-10); done.append("nice")
except OSError: pass
try: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(50)); done.append("fifo")
except OSError: pass
tried()
if done: escaped(done)`,
  ),
];
