import { chmodSync, cpSync, existsSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";

/** Public files of the host's /etc by which programs find libraries, alternatives, certificates and the time zone. */
const COPIED =
  "alternatives ld.so.cache ld.so.conf ld.so.conf.d localtime timezone mime.types ssl/certs ssl/openssl.cnf ca-certificates bash.bashrc profile inputrc fonts services protocols".split(
    " ",
  );

const OWN: Record<string, string> = {
  passwd: "root:x:0:0:root:/root:/usr/sbin/nologin\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
  group: "root:x:0:\nnogroup:x:65534:\n",
  hosts: "127.0.0.1 localhost sandbox\n::1 localhost\n",
  hostname: "sandbox\n",
  "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
  "resolv.conf": "",
};

/** Makes the `/etc` of sandboxes at `dir`, readable by everybody: names of its own and copies of what is in COPIED. */
export function makeEtc(dir: string): void {
  for (const name of COPIED) {
    const source = join("/etc", name);
    if (!existsSync(source)) continue;
    mkdirSync(dirname(join(dir, name)), { recursive: true, mode: 0o755 });
    cpSync(source, join(dir, name), { recursive: true, verbatimSymlinks: true });
  }
  for (const [name, text] of Object.entries(OWN)) writeFileSync(join(dir, name), text);
  openToAll(dir);
}

function openToAll(dir: string): void {
  chmodSync(dir, 0o755);
  for (const entry of readdirSync(dir, { withFileTypes: true })) {
    const path = join(dir, entry.name);
    if (entry.isDirectory()) openToAll(path);
    else if (entry.isFile()) chmodSync(path, 0o644);
  }
}
