import { join } from "node:path";

/** Where uploads are that are not whole yet: beside the workspaces, out of every sandbox's sight. */
export function incomingDir(dataDir: string): string {
  return join(dataDir, "workspaces/.incoming");
}
