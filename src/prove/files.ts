import { python, shell, type HostileProgram } from "./program.ts";

const GROUP = "files";

/** Attempts to read or write what is not the session's. */
export const FILES: readonly HostileProgram[] = [
  python(
    GROUP,
    "read-host-file",
    "host files are out of sight",
    `
tried()
if readable("{{CANARY_FILE}}") is not None: escaped("read the host's file")`,
  ),
  python(
    GROUP,
    "read-data-directory",
    "the service's own files are out of sight",
    `
found = [p for p in ("{{DATA_DIR}}", "{{DATA_DIR}}/sandbox.db", "{{DATA_DIR}}/executor/socket") if os.path.exists(p)]
tried()
if found: escaped(found)`,
  ),
  python(
    GROUP,
    "read-other-session",
    "another session's files are out of sight",
    `
hits = []
for root in ("/workspace/../{{OTHER_SESSION}}", "{{DATA_DIR}}/workspaces/{{OTHER_SESSION}}", "/workspaces/{{OTHER_SESSION}}"):
    if readable(root + "/secret.txt"): hits.append(root)
for top, dirs, files in os.walk("/", onerror=lambda e: None):
    dirs[:] = [d for d in dirs if os.path.join(top, d) not in ("/proc", "/sys", "/usr")]
    for f in files:
        path = os.path.join(top, f)
        if f == "secret.txt" and b"{{CANARY_TEXT}}" in (readable(path) or b""): hits.append(path)
tried()
if hits: escaped(hits)`,
  ),
  python(
    GROUP,
    "list-layers",
    "names of other sessions' packages are out of sight",
    `
try: found = os.listdir("/.layers")
except OSError as error: tried(error)
else:
    tried()
    escaped(found)`,
  ),
  python(
    GROUP,
    "host-environment",
    "the service's environment is out of sight",
    `
seen = [k for k in os.environ if k.startswith(("API_", "S3_", "DATABASE", "CANARY", "AWS", "SANDBOX_API"))]
for pid in os.listdir("/proc"):
    if pid.isdigit() and b"{{CANARY_TEXT}}" in (readable(f"/proc/{pid}/environ") or b""): seen.append(pid)
tried()
if seen: escaped(seen)`,
  ),
  python(
    GROUP,
    "secrets-on-command-lines",
    "no command line shows the host",
    `
lines = [(p, readable(f"/proc/{p}/cmdline")) for p in os.listdir("/proc") if p.isdigit()]
tried(len(lines))
for pid, line in lines:
    if line and (b"{{CANARY_TEXT}}" in line or b"{{DATA_DIR}}" in line): escaped(pid, line)`,
  ),
  python(
    GROUP,
    "write-system",
    "the root is read-only",
    `
done = []
for path in ("/x", "/usr/x", "/etc/x", "/bin/x", "/.sandbox/x", "/lib/x", "/home/x", "/var/x", "/root/x"):
    try: open(path, "w").close(); done.append(path)
    except OSError: pass
tried()
if done: escaped(done)`,
  ),
  python(
    GROUP,
    "change-own-runtime",
    "the interpreter and its runner can't be changed",
    `
done = []
for top in ("/.sandbox", "/usr/bin", "/usr/lib/python3"):
    for name in (os.listdir(top) if os.path.isdir(top) else []):
        path = os.path.join(top, name)
        try:
            with open(path, "r+b"): done.append(path)
        except OSError: pass
        try: os.chmod(path, 0o777); done.append(path)
        except OSError: pass
tried()
if done: escaped(done[:5])`,
  ),
  python(
    GROUP,
    "proc-self-exe",
    "the running executable can't be overwritten",
    `
done = []
for pid in ("self", "1"):
    try:
        fd = os.open(f"/proc/{pid}/exe", os.O_RDONLY)
        try: os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_TRUNC); done.append(pid)
        except OSError: pass
    except OSError: pass
tried()
if done: escaped(done)`,
  ),
  python(
    GROUP,
    "proc-root-of-others",
    "no other process leads to another root",
    `
hits = []
for pid in os.listdir("/proc"):
    if not pid.isdigit(): continue
    for way in ("root", "cwd"):
        if readable(f"/proc/{pid}/{way}{{CANARY_FILE}}"): hits.append((pid, way))
tried()
if hits: escaped(hits)`,
  ),
  python(
    GROUP,
    "inherited-descriptors",
    "no descriptor of the executor is inherited",
    `
odd = []
for fd in os.listdir("/proc/self/fd"):
    try: target = os.readlink(f"/proc/self/fd/{fd}")
    except OSError: continue
    if target.startswith("/") and not target.startswith(("/workspace", "/dev/null", "/proc/")): odd.append((fd, target))
    if target.startswith("socket:"): odd.append((fd, target))
tried()
if odd: escaped(odd)`,
  ),
  python(
    GROUP,
    "descriptors-of-init",
    "init's descriptors can't be taken",
    `
got = []
for pid in os.listdir("/proc"):
    if not pid.isdigit() or int(pid) == os.getpid(): continue
    try: fds = os.listdir(f"/proc/{pid}/fd")
    except OSError: continue
    for fd in fds:
        try: os.open(f"/proc/{pid}/fd/{fd}", os.O_RDWR | os.O_NONBLOCK); got.append((pid, fd))
        except OSError: pass
tried()
if [g for g in got if g[0] == "1"]: escaped(got)`,
  ),
  python(
    GROUP,
    "pidfd-getfd-init",
    "init's descriptors can't be copied",
    `
pidfd, error = call(434, 1, 0)
result, error = call(438, pidfd, 0, 0)
tried(pidfd, result, error)
if result >= 0: escaped("copied a descriptor of init")`,
  ),
  python(
    GROUP,
    "symlink-out",
    "a link leads no further than the sandbox",
    `
os.symlink("{{CANARY_FILE}}", "/workspace/link-out")
tried()
if readable("/workspace/link-out") is not None: escaped("followed a link to the host")
os.unlink("/workspace/link-out")`,
  ),
  python(
    GROUP,
    "hard-link-out",
    "a hard link can't take a file of the system into the workspace",
    `
done = []
for path in ("/etc/passwd", "/usr/bin/env", "/.sandbox/init"):
    try: os.link(path, "/workspace/hard"); done.append(path); os.unlink("/workspace/hard")
    except OSError: pass
tried()
if done: escaped(done)`,
  ),
  python(
    GROUP,
    "dot-dot-out",
    "no way up leads out",
    `
d = os.open("/workspace", os.O_RDONLY)
os.chdir("/")
for _ in range(64): os.chdir("..")
tried()
if readable("." + "{{CANARY_FILE}}") is not None: escaped("climbed out")`,
  ),
  python(
    GROUP,
    "set-user-id-file",
    "no file gives another user's rights",
    `
with open("/workspace/suid", "wb") as f: f.write(open("/usr/bin/env", "rb").read())
try: os.chmod("/workspace/suid", 0o6755)
except OSError: pass
import subprocess
out = subprocess.run(["/workspace/suid", "id", "-u"], capture_output=True, text=True).stdout.strip()
tried(out)
if out == "0" or (out and int(out) != os.getuid()): escaped("runs as", out)`,
  ),
  python(
    GROUP,
    "set-user-id-of-system",
    "set-user-id programs of the system give nothing",
    `
import subprocess
for cmd in (["su", "-c", "id -u"], ["sudo", "-n", "id", "-u"], ["mount"], ["newgrp"]):
    try: out = subprocess.run(cmd, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=5).stdout
    except (OSError, subprocess.TimeoutExpired): continue
    if out.strip() == "0": escaped(cmd)
no_new = [l for l in open("/proc/self/status") if l.startswith("NoNewPrivs")][0].split()[1]
tried(no_new)
if no_new != "1": escaped("no_new_privs is not set")`,
  ),
  python(
    GROUP,
    "capabilities",
    "no capability is held or can be",
    `
status = {l.split(":")[0]: l.split()[1] for l in open("/proc/self/status") if l.startswith("Cap")}
tried(status)
if any(int(status[k], 16) for k in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")): escaped(status)`,
  ),
  python(
    GROUP,
    "kernel-interfaces",
    "kernel interfaces are masked or read-only",
    `
got = []
for path in ("/proc/kcore", "/proc/kallsyms", "/proc/keys", "/proc/timer_list", "/proc/sched_debug", "/dev/mem", "/dev/kmsg", "/dev/sda", "/dev/vda", "/dev/kvm", "/dev/fuse", "/sys/kernel/debug"):
    try:
        with open(path, "rb") as f:
            data = f.read(64)
            if path == "/proc/kallsyms" and data.startswith(b"0000000000000000"): continue
            if data: got.append(path)
    except OSError: pass
for path in ("/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern", "/proc/sys/kernel/hostname", "/proc/sys/vm/drop_caches", "/sys/kernel/uevent_helper"):
    try: os.open(path, os.O_WRONLY); got.append(path)
    except OSError: pass
tried()
if got: escaped(got)`,
  ),
  python(
    GROUP,
    "control-groups",
    "limits can't be lifted",
    `
done = []
for top, dirs, files in os.walk("/sys/fs/cgroup"):
    for f in files:
        if f in ("cgroup.procs", "tasks", "memory.max", "memory.limit_in_bytes", "pids.max", "release_agent"):
            try: os.open(os.path.join(top, f), os.O_WRONLY); done.append(os.path.join(top, f))
            except OSError: pass
tried()
if done: escaped(done[:5])`,
  ),
  python(
    GROUP,
    "raise-limits",
    "resource limits can't be raised",
    `
import resource
done = []
for name in ("RLIMIT_NOFILE", "RLIMIT_FSIZE", "RLIMIT_CORE"):
    what = getattr(resource, name)
    soft, hard = resource.getrlimit(what)
    if hard == resource.RLIM_INFINITY: continue
    try: resource.setrlimit(what, (hard + 1, hard + 1)); done.append(name)
    except (ValueError, OSError): pass
tried()
if done: escaped(done)`,
  ),
  shell(
    GROUP,
    "core-dump-pipe",
    "a crash runs nothing on the host",
    `
ulimit -c unlimited 2>/dev/null; sh -c 'kill -SEGV $$'; echo TRIED`,
  ),
];
