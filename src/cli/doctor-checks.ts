import { accessSync, constants, existsSync, readFileSync, statfsSync } from "node:fs";
import { dirname } from "node:path";
import { findCgroups } from "../executor/jail/cgroup-roots.ts";

/** One thing that was looked at. `required`: the service can't run code without it. */
export type Finding = { name: string; ok: boolean; required: boolean; found: string; remedy?: string };

/** Space that the data directory should have at least, in bytes. */
const MIN_FREE_BYTES = 2 * 1024 ** 3;

/** Everything that this machine must or should have, by real probes. */
export async function findings(dataDir: string): Promise<Finding[]> {
  return [
    kernel(),
    program("bubblewrap", "bwrap", ["--version"]),
    await namespaces(),
    await python(),
    program("shell", "bash", ["--version"], false),
    cgroups(),
    user(),
    ...disk(dataDir),
  ];
}

function kernel(): Finding {
  const found = readFileSync("/proc/sys/kernel/osrelease", "utf8").trim();
  const [major = 0, minor = 0] = found.split(".").map(Number);
  const ok = major > 5 || (major === 5 && minor >= 9);
  return { name: "kernel", ok, required: true, found, ...(ok ? {} : { remedy: "Linux 5.9 or later is needed" }) };
}

function program(name: string, command: string, args: string[], required = true): Finding {
  const path = Bun.which(command);
  if (path === null) {
    const what = command === "bwrap" ? "bubblewrap" : command;
    return { name, ok: false, required, found: `${command} is missing`, remedy: `apt-get install ${what}` };
  }
  const said =
    Bun.spawnSync([path, ...args])
      .stdout.toString()
      .split("\n")[0] ?? "";
  return { name, ok: true, required, found: `${path} (${said.trim()})` };
}

/** Makes a jail's namespaces for real, since settings alone do not tell. */
async function namespaces(): Promise<Finding> {
  const name = "user namespaces";
  if (Bun.which("bwrap") === null) return { name, ok: false, required: true, found: "not tried without bwrap" };
  const probe = [
    "bwrap",
    "--unshare-all",
    "--unshare-user",
    "--ro-bind",
    "/",
    "/",
    "--proc",
    "/proc",
    "--dev",
    "/dev",
    "true",
  ];
  const asRoot = process.getuid?.() === 0;
  const user = asRoot ? { uid: 65_534, gid: 65_534 } : {};
  const run = Bun.spawn(probe, { stdout: "ignore", stderr: "pipe", ...user });
  const said = (await new Response(run.stderr).text()).trim();
  if ((await run.exited) === 0) return { name, ok: true, required: true, found: "a jail was made and ended" };
  return { name, ok: false, required: true, found: said, remedy: namespaceRemedy() };
}

function namespaceRemedy(): string {
  const setting = (path: string): string => (existsSync(path) ? readFileSync(path, "utf8").trim() : "");
  if (setting("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") === "1")
    return "AppArmor forbids them (Ubuntu 24.04): give bwrap a profile with `userns,`, or sysctl kernel.apparmor_restrict_unprivileged_userns=0";
  if (setting("/proc/sys/kernel/unprivileged_userns_clone") === "0") return "sysctl kernel.unprivileged_userns_clone=1";
  if (setting("/proc/sys/user/max_user_namespaces") === "0") return "sysctl user.max_user_namespaces=10000";
  return "the kernel, a container or a security module forbids them";
}

async function python(): Promise<Finding> {
  const name = "Python";
  const path = ["/usr/bin/python3", "/usr/local/bin/python3"].find((one) => existsSync(one));
  if (path === undefined)
    return { name, ok: false, required: true, found: "no python3 in /usr", remedy: "apt-get install python3" };
  const run = Bun.spawn([path, "--version"], { stdout: "pipe", stderr: "ignore" });
  return { name, ok: true, required: true, found: `${path} (${(await new Response(run.stdout).text()).trim()})` };
}

function cgroups(): Finding {
  const roots = findCgroups();
  const name = "control groups";
  if (roots.version !== 0) return { name, ok: true, required: false, found: `version ${roots.version}` };
  return {
    name,
    ok: false,
    required: false,
    found: `${roots.why}: a watchdog holds memory and processes instead, and nothing holds CPU`,
    remedy: "run as root, or delegate a group to the service (systemd: Delegate=yes)",
  };
}

function user(): Finding {
  const asRoot = process.getuid?.() === 0;
  const found = asRoot
    ? "root: each sandbox gets a host user of its own"
    : `uid ${process.getuid?.()}: sandboxes share this user, apart by namespaces alone`;
  return { name: "user", ok: true, required: false, found };
}

function disk(dataDir: string): Finding[] {
  let dir = dataDir;
  while (!existsSync(dir)) dir = dirname(dir);
  const { bavail, bsize, files, ffree } = statfsSync(dir);
  const free = bavail * bsize;
  const shown = `${(free / 1024 ** 3).toFixed(1)} GiB and ${files === 0 ? "any number of" : ffree} files free at ${dir}`;
  const isEnough = free >= MIN_FREE_BYTES;
  const writable: Finding = { name: "data directory", ok: true, required: true, found: `${dataDir} can be written` };
  try {
    accessSync(dir, constants.W_OK | constants.X_OK);
  } catch {
    Object.assign(writable, { ok: false, found: `${dir} can't be written`, remedy: "choose another with DATA_DIR" });
  }
  const space: Finding = { name: "disk", ok: isEnough, required: false, found: shown };
  return [writable, isEnough ? space : { ...space, remedy: "make room, or choose another DATA_DIR" }];
}
