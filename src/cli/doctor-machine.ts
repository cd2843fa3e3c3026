import { existsSync, readFileSync } from "node:fs";
import { chmod, mkdtemp } from "node:fs/promises";
import { BwrapJail } from "../executor/jail/bwrap.ts";
import { removeTree } from "../executor/jail/remove-tree.ts";
import { missing, ok, weaker, type Finding } from "./doctor-finding.ts";

/** Modules that programs count on and that a minimal Python lacks. */
const MODULES = ["asyncio", "ctypes", "json", "sqlite3", "ssl", "zoneinfo"];
const MIN_PYTHON = 9;
const NOBODY = 65_534;

type Ended = { code: number; stdout: string; stderr: string };

/** Linux 5.9, the first with close_range (init). */
export function kernel(): Finding {
  const found = readFileSync("/proc/sys/kernel/osrelease", "utf8").trim();
  const [major = 0, minor = 0] = found.split(".").map(Number);
  const isEnough = major > 5 || (major === 5 && minor >= 9);
  return isEnough ? ok("kernel", found) : missing("kernel", found, "run Linux 5.9 or later");
}

/** bubblewrap 0.8, the first with --disable-userns. */
export async function bubblewrap(): Promise<Finding> {
  const name = "bubblewrap";
  const path = which("bwrap");
  if (path === null) return missing(name, "bwrap is not in PATH", "apt-get install bubblewrap");
  const said = (await run([path, "--version"])).stdout.trim();
  const [, major = "0", minor = "0"] = /(\d+)\.(\d+)/.exec(said) ?? [];
  if (major === "0" && Number(minor) < 8)
    return missing(name, `${path} (${said})`, "install bubblewrap 0.8 or later, as Debian 12 and Ubuntu 24.04 have it");
  return ok(name, `${path} (${said})`);
}

/** Makes a jail's namespaces for real, as the user that sandboxes run under, since settings alone do not tell. */
export async function namespaces(): Promise<Finding> {
  const name = "user namespaces";
  const bwrap = which("bwrap");
  if (bwrap === null) return missing(name, "not tried without bwrap", "apt-get install bubblewrap");
  const options = "--unshare-all --unshare-user --cap-drop ALL --ro-bind / / --proc /proc --dev /dev true";
  const ended = await run([bwrap, ...options.split(" ")], process.getuid?.() === 0 ? NOBODY : undefined);
  if (ended.code === 0) return ok(name, "a program ran in namespaces of its own");
  return missing(name, ended.stderr.trim().replaceAll("\n", "; "), namespaceRemedy());
}

function namespaceRemedy(): string {
  if (kernelSetting("kernel/apparmor_restrict_unprivileged_userns") === "1")
    return "AppArmor restricts them, as Ubuntu 24.04 has it: give bwrap a profile that has `userns,` (install -m 644 deploy/apparmor/bwrap /etc/apparmor.d/bwrap && apparmor_parser -r /etc/apparmor.d/bwrap), or sysctl -w kernel.apparmor_restrict_unprivileged_userns=0";
  if (kernelSetting("kernel/unprivileged_userns_clone") === "0") return "sysctl -w kernel.unprivileged_userns_clone=1";
  if (kernelSetting("user/max_user_namespaces") === "0") return "sysctl -w user.max_user_namespaces=100000";
  return "the kernel, a surrounding container or a security module forbids them: run on the host itself, or allow them there";
}

function kernelSetting(path: string): string {
  const file = `/proc/sys/${path}`;
  return existsSync(file) ? readFileSync(file, "utf8").trim() : "";
}

/** Makes a sandbox as the service does, in a directory for this alone, and tells what the kernel shows of it. */
export async function sandbox(uidBase: number): Promise<Finding[]> {
  const dataDir = await mkdtemp("/tmp/sandbox-doctor-");
  try {
    await chmod(dataDir, 0o711);
    const jail = await BwrapJail.open({ dataDir, uidBase });
    const checks = await jail.checks();
    jail.close();
    return checks
      .filter((check) => check.name !== "kernel" && check.name !== "bubblewrap")
      .map(({ name, ok: isOk, found, remedy }) => ({
        name,
        verdict: !isOk ? ("missing" as const) : remedy === undefined ? ("ok" as const) : ("weaker" as const),
        found,
        ...(remedy === undefined ? {} : { remedy }),
      }));
  } catch (error) {
    const remedy = "mend what is missing above; if nothing is, a security module may forbid it: see dmesg";
    return [missing("sandbox", reason(error), remedy)];
  } finally {
    await removeTree(dataDir);
  }
}

function reason(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const cause = error.cause === undefined ? "" : `: ${reason(error.cause)}`;
  return `${error.message}${cause}`.replaceAll("\n", "; ");
}

/** An interpreter where sandboxes see it, new enough, with the modules that programs count on. */
export async function python(): Promise<Finding> {
  const name = "Python";
  const path = ["/usr/bin/python3", "/usr/local/bin/python3"].find((one) => existsSync(one));
  if (path === undefined)
    return missing(name, "no python3 in /usr/bin or /usr/local/bin, which sandboxes see", "apt-get install python3");
  const version = await run([path, "-I", "-c", "import sys; print('%d.%d.%d' % sys.version_info[:3])"]);
  const found = `${path} (${version.stdout.trim()})`;
  if (version.code !== 0 || Number(version.stdout.split(".")[1]) < MIN_PYTHON)
    return missing(name, found, `install Python 3.${MIN_PYTHON} or later`);
  const modules = await run([path, "-I", "-c", `import ${MODULES.join(", ")}`]);
  if (modules.code === 0) return ok(name, found);
  const said = modules.stderr.trim().split("\n").at(-1) ?? "";
  return missing(name, `${found}: ${said}`, "apt-get install python3, since python3-minimal is not enough");
}

/** What installs a session's dependencies; code without any needs neither. */
export async function installer(): Promise<Finding> {
  const name = "uv or pip";
  const uv = ["/usr/bin/uv", "/usr/local/bin/uv"].find((one) => existsSync(one));
  if (uv !== undefined) return ok(name, uv);
  const pip = await run(["/usr/bin/python3", "-I", "-m", "pip", "--version"]);
  if (pip.code === 0) return ok(name, pip.stdout.trim().replace(/ from .*/, ""));
  return weaker(name, "neither is there: sessions can't have dependencies", "apt-get install python3-pip");
}

/** What shell code runs in. */
export async function shell(): Promise<Finding> {
  const path = which("bash");
  if (path === null) return weaker("shell", "no bash: shell code runs in sh", "apt-get install bash");
  const { stdout } = await run([path, "-c", "echo $BASH_VERSION"]);
  return ok("shell", `${path} (${stdout.trim()})`);
}

function which(command: string): string | null {
  return Bun.which(command, { PATH: process.env["PATH"] ?? "" });
}

/** Ends with 126 when it can't be started at all. */
async function run(command: string[], uid?: number): Promise<Ended> {
  const user = uid === undefined ? {} : { uid, gid: uid };
  let child: Bun.Subprocess<"ignore", "pipe", "pipe">;
  try {
    child = Bun.spawn(command, { stdin: "ignore", stdout: "pipe", stderr: "pipe", cwd: "/", ...user });
  } catch (error) {
    return { code: 126, stdout: "", stderr: error instanceof Error ? error.message : String(error) };
  }
  const [stdout, stderr, code] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  return { code, stdout, stderr };
}
