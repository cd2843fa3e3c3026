import { dns } from "bun";
import { setServers } from "node:dns";
import { readFileSync, statSync } from "node:fs";

const CONFIGURATION = "/etc/resolv.conf";
/** As many as the system's resolver asks. */
const MAX_SERVERS = 3;

/** The configuration that lookups go by; null before the first. */
let known: string | null = null;

/**
 * All addresses of a name, as hosts file and name servers of the system say; rejects when there are none. Asked by c-ares,
 * which takes no thread: the system's resolver would hold one of the few that all file access of this process needs, for as
 * long as a name server takes to answer, and that server may be the sandbox's own.
 */
export async function addressesOf(name: string): Promise<string[]> {
  followConfiguration();
  return (await dns.lookup(name, { backend: "c-ares" })).map((one) => one.address);
}

/** c-ares reads it once; a machine that moves to another network has other servers there. */
function followConfiguration(): void {
  try {
    const { ino, mtimeMs } = statSync(CONFIGURATION);
    const found = `${ino} ${mtimeMs}`;
    if (known === found) return;
    if (known !== null) setServers(nameServers());
    known = found;
  } catch {
    // Being written, or with no server that can be used: lookups go by what was there before.
  }
}

function nameServers(): string[] {
  const lines = readFileSync(CONFIGURATION, "utf8").matchAll(/^\s*nameserver\s+(\S+)/gm);
  const servers = Array.from(lines, ([, address = ""]) => address).slice(0, MAX_SERVERS);
  if (servers.length === 0) throw new Error("no name server");
  return servers;
}
