import { chmodSync, cpSync, existsSync, lstatSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { INSIDE_ID } from "./bwrap-arguments.ts";

/** Small public files of the host's /etc by which programs find libraries, names and the time zone. */
const COPIED =
  "ld.so.cache ld.so.conf ld.so.conf.d localtime timezone mime.types ssl/openssl.cnf bash.bashrc profile inputrc services protocols".split(
    " ",
  );

/** Large public directories of the host's /etc, which sandboxes see as they are: alternatives, certificates, fonts. */
export const SHARED_ETC = ["/etc/alternatives", "/etc/ssl/certs", "/etc/fonts"] as const;

const OWN: Record<string, string> = {
  passwd: [
    "root:x:0:0:root:/root:/usr/sbin/nologin",
    `sandbox:x:${INSIDE_ID}:${INSIDE_ID}:sandbox:/workspace:/bin/bash`,
    "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin",
    "",
  ].join("\n"),
  group: `root:x:0:\nsandbox:x:${INSIDE_ID}:\nnogroup:x:65534:\n`,
  hosts: "127.0.0.1 localhost sandbox\n::1 localhost\n",
  hostname: "sandbox\n",
  "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
  "resolv.conf": "",
};

/** Changes with what `makeEtc` would make: its own files, and the host's by their size and time of change. */
export function etcVersion(): string {
  const hash = new Bun.CryptoHasher("sha256").update(JSON.stringify(OWN));
  for (const name of COPIED) note(hash, join("/etc", name));
  return hash.digest("hex").slice(0, 16);
}

function note(hash: Bun.CryptoHasher, path: string): void {
  const stats = lstatSync(path, { throwIfNoEntry: false });
  if (stats === undefined) return;
  hash.update(`${path} ${stats.size} ${stats.mtimeMs}\n`);
  if (stats.isDirectory()) for (const name of readdirSync(path).toSorted()) note(hash, join(path, name));
}

/**
 * Makes the `/etc` of sandboxes at `dir`, readable by everybody: names of its own, copies of what is in COPIED, and places
 * for what is in SHARED_ETC.
 */
export function makeEtc(dir: string): void {
  for (const path of SHARED_ETC) mkdirSync(join(dir, path.slice("/etc/".length)), { recursive: true });
  for (const name of COPIED) {
    const source = join("/etc", name);
    if (!existsSync(source)) continue;
    mkdirSync(dirname(join(dir, name)), { recursive: true, mode: 0o755 });
    cpSync(source, join(dir, name), { recursive: true, verbatimSymlinks: true, filter: isPublic });
  }
  for (const [name, text] of Object.entries(OWN)) writeFileSync(join(dir, name), text);
  openToAll(dir);
}

/** What not everybody on the host may read is not for sandboxes either. */
function isPublic(source: string): boolean {
  const stats = lstatSync(source);
  if (stats.isSymbolicLink()) return true;
  return (stats.isDirectory() || stats.isFile()) && (stats.mode & 0o004) !== 0;
}

function openToAll(dir: string): void {
  chmodSync(dir, 0o755);
  for (const entry of readdirSync(dir, { withFileTypes: true })) {
    const path = join(dir, entry.name);
    if (entry.isDirectory()) openToAll(path);
    else if (entry.isFile()) chmodSync(path, 0o644);
  }
}
