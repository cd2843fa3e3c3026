import { python, shell, type HostileProgram } from "./program.ts";

const GROUP = "exhaustion";
const STOPPED = ["failed", "timeout", "crashed"] as const;

/** Attempts to take what others need; afterwards the neighbour session must answer promptly, and mostly the session too. */
export const EXHAUSTION: readonly HostileProgram[] = [
  shell(GROUP, "fork-bomb", "processes are bounded", `echo TRIED; f() { f | f & }; f; sleep 30`, {
    leavesProcesses: true,
    mayEnd: STOPPED,
    timeout: 3,
  }),
  python(
    GROUP,
    "fork-bomb-python",
    "processes are bounded",
    `
tried()
n = 0
while n < 5000:
    try:
        if os.fork() == 0: time.sleep(30); os._exit(0)
        n += 1
    except OSError: break
print(n)
if n >= 5000: escaped(n)`,
    { leavesProcesses: true, mayEnd: STOPPED, timeout: 5 },
  ),
  python(
    GROUP,
    "thread-flood",
    "threads are bounded",
    `
import threading
tried()
n = 0
try:
    for n in range(5000): threading.Thread(target=time.sleep, args=(30,), daemon=True).start()
    escaped(n)
except RuntimeError: print(n)
sys.stdout.flush(); os._exit(0)`,
    { leavesProcesses: true, mayEnd: STOPPED, timeout: 8 },
  ),
  python(
    GROUP,
    "memory",
    "memory is bounded",
    `
tried()
held = []
for i in range(64): held.append(bytearray(os.urandom(1) * (64 << 20)))
escaped(len(held))`,
    { mayEnd: STOPPED },
  ),
  python(
    GROUP,
    "memory-hidden-from-the-killer",
    "memory is bounded also for a process that the kernel would rather not kill",
    `
tried()
try:
    with open("/proc/self/oom_score_adj", "w") as f: f.write("-1000")
except OSError as e: print(e)
held = []
for i in range(64): held.append(bytearray(os.urandom(1) * (64 << 20)))
escaped(len(held))`,
    { mayEnd: STOPPED, timeout: 5 },
  ),
  python(
    GROUP,
    "memory-in-children",
    "memory is bounded over all processes together",
    `
tried()
for i in range(16):
    if os.fork() == 0:
        held = bytearray(b"x" * (128 << 20)); time.sleep(30); os._exit(0)
time.sleep(4)`,
    { leavesProcesses: true, mayEnd: STOPPED, timeout: 6 },
  ),
  python(
    GROUP,
    "memory-in-tmp",
    "/tmp is bounded",
    `
tried()
n = 0
try:
    with open("/tmp/big", "wb") as f:
        for n in range(8192): f.write(b"x" * (1 << 20))
    escaped(n)
except OSError as e: print(e)
os.unlink("/tmp/big")`,
    { mayEnd: STOPPED },
  ),
  python(
    GROUP,
    "memory-in-shm",
    "shared memory is bounded",
    `
tried()
try:
    with open("/dev/shm/big", "wb") as f:
        for n in range(8192): f.write(b"x" * (1 << 20))
    escaped(n)
except OSError as e: print(e)
try: os.unlink("/dev/shm/big")
except OSError: pass`,
    { mayEnd: STOPPED },
  ),
  python(
    GROUP,
    "memory-by-memfd",
    "anonymous files count as memory",
    `
tried()
fd = os.memfd_create("x")
try:
    for n in range(8192): os.write(fd, b"x" * (1 << 20))
    escaped(n)
except OSError as e: print(e)`,
    { mayEnd: STOPPED },
  ),
  python(
    GROUP,
    "disk",
    "the workspace is bounded",
    `
tried()
try:
    for i in range(64):
        with open(f"/workspace/big{i}", "wb") as f:
            for n in range(64): f.write(b"x" * (1 << 20))
    escaped("wrote 4 GiB")
except OSError as e: print(e)`,
    { mayEnd: STOPPED, timeout: 30 },
  ),
  shell(GROUP, "disk-cleanup", "a full workspace can be emptied again", `rm -rf /workspace/big*; echo TRIED`),
  python(
    GROUP,
    "inodes",
    "the number of files is bounded",
    `
tried()
os.makedirs("/workspace/many", exist_ok=True)
n = 0
try:
    for n in range(2000000): open(f"/workspace/many/{n}", "w").close()
    escaped(n)
except OSError as e: print(n, e)`,
    { mayEnd: STOPPED, timeout: 20 },
  ),
  shell(GROUP, "inodes-cleanup", "a full workspace can be emptied again", `rm -rf /workspace/many; echo TRIED`, {
    timeout: 60,
  }),
  python(
    GROUP,
    "deep-directories",
    "an endless path harms nobody",
    `
tried()
os.chdir("/workspace")
try:
    for i in range(3000): os.mkdir("d"); os.chdir("d")
except OSError as e: print(i, e)`,
    { mayEnd: STOPPED },
  ),
  shell(GROUP, "deep-directories-cleanup", "an endless path can be removed", `rm -rf /workspace/d; echo TRIED`),
  python(
    GROUP,
    "descriptors",
    "open files are bounded",
    `
tried()
held = []
try:
    for i in range(200000): held.append(os.open("/dev/null", os.O_RDONLY))
    escaped(len(held))
except OSError as e: print(len(held), e)`,
    { mayEnd: STOPPED },
  ),
  python(
    GROUP,
    "pipes",
    "pipe memory is bounded",
    `
tried()
held = []
try:
    for i in range(100000):
        r, w = os.pipe(); held.append((r, w)); os.set_blocking(w, False)
        try: os.write(w, b"x" * 65536)
        except BlockingIOError: pass
    escaped(len(held))
except OSError as e: print(len(held), e)`,
    { mayEnd: STOPPED },
  ),
  python(
    GROUP,
    "output-flood",
    "output is bounded on disk and harms no reader",
    `
tried()
end = time.time() + 3
while time.time() < end: os.write(1, b"flood " * 10000)`,
    { mayEnd: STOPPED, timeout: 10 },
  ),
  python(
    GROUP,
    "zombies",
    "zombies are bounded and go away",
    `
tried()
n = 0
try:
    for n in range(5000):
        if os.fork() == 0: os._exit(0)
    escaped(n)
except OSError: print(n)`,
    { leavesProcesses: true, mayEnd: STOPPED },
  ),
  python(
    GROUP,
    "timers",
    "timers are bounded",
    `
tried()
n = 0
buf = ctypes.create_string_buffer(8)
for n in range(2000000):
    result, error = call(nr(222, 107), 1, 0, buf)
    if result != 0: break
else: escaped(n)
print(n)`,
    { mayEnd: STOPPED, timeout: 8 },
  ),
  python(
    GROUP,
    "busy-cpu",
    "CPU share is bounded and others are served",
    `
import threading
tried()
for _ in range(8):
    if os.fork() == 0:
        while True: pass
while True: pass`,
    { mayEnd: STOPPED, timeout: 3 },
  ),
  python(
    GROUP,
    "file-locks-and-fifos",
    "a FIFO or a socket in the workspace blocks nobody outside",
    `
os.mkfifo("/workspace/fifo")
s = socket.socket(socket.AF_UNIX); s.bind("/workspace/sock")
tried()`,
  ),
  shell(GROUP, "fifo-cleanup", "the workspace can be emptied", `rm -f /workspace/fifo /workspace/sock; echo TRIED`),
];
