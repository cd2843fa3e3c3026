import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { lstatSync, readdirSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import { IS_ROOT, TestJail, type TestSandbox } from "./fixture.ts";

let jail: TestJail;
let sandbox: TestSandbox;

beforeAll(async () => {
  jail = await TestJail.open();
  sandbox = await jail.start("one");
});
afterAll(() => jail.close());

async function said(code: string): Promise<string> {
  const { stdout, stderr } = await sandbox.sh(code);
  return (stdout + stderr).trimEnd();
}

describe("who a program is", () => {
  test("a user of its own name and number, whatever it is on the host", async () => {
    expect(await said("id; whoami; getent passwd 1000")).toBe(
      "uid=1000(sandbox) gid=1000(sandbox) groups=1000(sandbox)\nsandbox\nsandbox:x:1000:1000:sandbox:/workspace:/bin/bash",
    );
  });

  test("no capability, no new privileges, a seccomp filter", async () => {
    const status = await said("grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status");
    const zero = "0000000000000000";
    expect(status.replaceAll("\t", " ").split("\n")).toEqual([
      ...["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"].map((name) => `${name}: ${zero}`),
      "NoNewPrivs: 1",
      "Seccomp: 2",
    ]);
  });

  test("process 1 of a namespace that holds nothing of the host", async () => {
    expect(await said("tr '\\0' ' ' < /proc/1/cmdline")).toStartWith("/.sandbox/init init");
    const pids = (await said("cd /proc; echo [0-9]*")).split(" ").map(Number);
    expect(pids.length).toBeLessThan(6);
  });

  test("on the host it is never root, and its workspace is its own", () => {
    const stats = lstatSync(sandbox.init.workspaceDir);
    expect(stats.uid).not.toBe(0);
    expect(stats.mode & 0o777).toBe(0o700);
    expect(stats.uid).toBe(IS_ROOT ? (sandbox.init.owner?.uid ?? 0) : (process.getuid?.() ?? 0));
  });
});

describe("what a program is given", () => {
  test("no environment but what it was started with, and no descriptor of the executor", async () => {
    expect(await said("cat /proc/1/environ 2>/dev/null | wc -c")).toBe("0");
    expect(await said("env | sort")).toBe("PATH=/usr/bin:/bin\nPWD=/workspace\nSHLVL=1\n_=/usr/bin/env");
    expect((await said("ls /proc/self/fd")).split("\n").length).toBeLessThanOrEqual(6);
  });

  test("the host name, loopback alone, and names of nobody else", async () => {
    expect(await said("hostname; cat /etc/hostname")).toBe("sandbox\nsandbox");
    expect(
      await said("tail -n +3 /proc/net/dev | cut -d: -f1 | grep -cvE '^ *(lo|tunl|sit|ip6tnl|gre|erspan|ip_vti|ip6)'"),
    ).toBe("0");
    expect(await said("cat /etc/resolv.conf | wc -c; getent hosts localhost")).toContain("localhost");
  });

  test("certificates, the loader's cache, time zone and alternatives", async () => {
    expect(
      await said("test -s /etc/ld.so.cache && ls -d /etc/alternatives && date +%Z >/dev/null && echo ok"),
    ).toContain("ok");
    const loaded = await sandbox.python("import ssl; print(len(ssl.create_default_context().get_ca_certs()) >= 0)");
    expect(loaded).toMatchObject({ stdout: "True\n", status: 0 });
  });

  test("a workspace, /tmp and /dev/shm to write to, of bounded size", async () => {
    expect(await said("for d in /workspace /tmp /dev/shm; do touch $d/x && rm $d/x && echo ok; done")).toBe(
      "ok\nok\nok",
    );
    expect(await said("df -BM --output=size /tmp /dev/shm | tail -n +2 | tr -d ' M'")).toBe("128\n64");
    expect(await said("stat -c %a /tmp /dev/shm")).toStartWith("1777");
  });

  test("multiprocessing's semaphores and pseudo terminals work", async () => {
    const code = "import multiprocessing, pty; multiprocessing.Lock(); print(len(pty.openpty()))";
    expect(await sandbox.python(code)).toMatchObject({ stdout: "2\n", status: 0 });
  });
});

describe("what a program can't reach", () => {
  test("anywhere else to write", async () => {
    const where = "/ /usr /usr/bin /etc /bin /.sandbox /.layers /lib /home /var /var/tmp /run /dev /proc /proc/sys";
    expect(await said(`for d in ${where}; do touch $d/x 2>/dev/null && echo $d; done; true`)).toBe("");
  });

  test("files of the host beside /usr", async () => {
    const top = (await said("ls -A / | tr '\\n' ' '")).split(" ");
    const extra = top.filter(
      (name) =>
        !/^(\.layers|\.sandbox|bin|dev|etc|home|lib(32|64|x32)?|proc|run|sbin|tmp|usr|var|workspace)$/.test(name),
    );
    expect(extra).toEqual([]);
    expect(await said("ls /home /run /var/tmp | grep -v :")).toBe("");
    expect(await said("ls /etc/shadow /etc/ssh /etc/machine-id 2>/dev/null")).toBe("");
    expect(await said(`ls ${jail.dataDir}`)).toContain("No such file");
  });

  test("another sandbox's workspace", async () => {
    const other = await jail.start("other");
    await other.sh("echo secret > /workspace/secret");
    expect(await said("find / -path /proc -prune -o -path /usr -prune -o -name secret -print 2>/dev/null")).toBe("");
    expect(other.init.owner?.uid === sandbox.init.owner?.uid).toBe(!IS_ROOT);
    await other.end();
  });

  test("kernel interfaces", async () => {
    const files =
      "kcore keys key-users kallsyms timer_list sysrq-trigger iomem ioports modules interrupts slabinfo config.gz kmsg";
    const code = `for f in ${files}; do test -e /proc/$f && head -c1 /proc/$f 2>/dev/null | wc -c; done | sort -u`;
    expect(await said(code)).toBe("0");
    expect(
      await said("ls -A /proc/acpi /proc/bus /proc/irq /proc/driver /proc/fs /proc/scsi 2>/dev/null | grep -v :"),
    ).toBe("");
    expect(await said("test -e /sys && echo there; true")).toBe("");
    expect(await said("ls /dev | sort | tr '\\n' ' '")).toBe(
      "core fd full null ptmx pts random shm stderr stdin stdout tty urandom zero",
    );
  });

  test("settings of the kernel, not even to try", async () => {
    const code = `
import errno, os
for path in ("kernel/core_pattern", "kernel/hostname", "vm/drop_caches", "kernel/ns_last_pid", "net/ipv4/ip_forward"):
    try: os.open("/proc/sys/" + path, os.O_WRONLY); print("open", path)
    except FileNotFoundError: pass
    except OSError as e: print(errno.errorcode[e.errno]) if e.errno not in (errno.EROFS, errno.EACCES) else None`;
    expect(await sandbox.python(code)).toMatchObject({ stdout: "", status: 0 });
  });

  test("new namespaces, mounts and other users", async () => {
    for (const code of [
      "unshare -U true",
      "unshare -Ur true",
      "mount -t tmpfs x /tmp",
      "umount /proc",
      "chroot / true",
      "setpriv --reuid 0 true",
    ])
      expect((await sandbox.sh(`${code} 2>/dev/null`)).status).not.toBe(0);
  });

  test("the namespaces of the process that started it", async () => {
    const { pid } = sandbox.init;
    const init = (await Bun.file(`/proc/${pid}/task/${pid}/children`).text()).trim();
    for (const name of ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"])
      expect(readlinkSync(`/proc/${init}/ns/${name}`)).not.toBe(readlinkSync(`/proc/self/ns/${name}`));
  });
});

describe("checks", () => {
  test("say what is in force, and nothing is amiss", async () => {
    const checks = await jail.jail.checks();
    expect(checks.filter((check) => !check.ok)).toEqual([]);
    const names = checks.map((check) => check.name);
    for (const name of [
      "kernel",
      "bubblewrap",
      "namespaces",
      "capabilities",
      "seccomp",
      "users",
      "memory limit",
      "disk limit",
    ])
      expect(names).toContain(name);
  });

  test("the sandbox that was made for them is gone", () => {
    expect(readdirSync(join(jail.dataDir, "workspaces"))).not.toContain(".probe");
  });
});
