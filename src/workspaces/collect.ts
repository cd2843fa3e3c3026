import type { Log } from "../log.ts";
import { collectGarbage } from "../objects/garbage.ts";
import type { Objects } from "../objects/objects.ts";
import type { SessionStore } from "../sessions/session.ts";
import { isLayerName, StoredLayers } from "./stored-layers.ts";
import { sessionIdOf, storedName } from "./stored-name.ts";

export type CollectDeps = {
  objects: Objects;
  sessions: Pick<SessionStore, "get">;
  log: Log;
  /** See `collectGarbage`. */
  graceMs: number;
};

/** Removes versions of sessions that are deleted, which a writer may have stored meanwhile, and then what nothing names. */
export async function collectStored(
  { objects, sessions, log, graceMs }: CollectDeps,
  signal: AbortSignal,
): Promise<void> {
  const layers = new StoredLayers(objects);
  let deletedWorkspaces = 0;
  for await (const workspace of objects.workspaces()) {
    signal.throwIfAborted();
    if (isLayerName(workspace)) {
      await layers.removeOld(workspace);
      continue;
    }
    const session = await sessions.get(sessionIdOf(workspace));
    if (session !== null && storedName(session) === workspace) continue;
    await objects.deleteManifests(workspace);
    deletedWorkspaces++;
  }
  const { deletedBlobs, deletedBytes } = await collectGarbage(objects, { graceMs, signal });
  if (deletedWorkspaces + deletedBlobs > 0)
    log.info("objects.collected", { workspaces: deletedWorkspaces, blobs: deletedBlobs, bytes: deletedBytes });
}
