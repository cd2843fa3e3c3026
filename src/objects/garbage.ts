import type { Objects } from "./objects.ts";

/**
 * How long a blob that no manifest names is kept after it was stored or renewed. `storeVersion` names blobs within three
 * quarters of it; the last is left for clocks that differ.
 */
export const GRACE_MS = 24 * 3600 * 1000;

/** Most blobs that are kept in memory at once; more are looked at in turns. */
const MAX_CANDIDATES = 50_000;
/** How often a workspace is read again whose versions change meanwhile. */
const MAX_READS = 100;

export type Collection = { deletedBlobs: number; deletedBytes: number };

export type CollectionOptions = { graceMs?: number; maxCandidates?: number; signal?: AbortSignal };

/**
 * Deletes blobs that no manifest names and that were not stored or renewed for the time of grace, and what writers left
 * unfinished. Any number of processes may do it while others write: what `storeVersion` has stored stays. Anything that
 * can't be read ends it with an error before it deletes on the grounds of it.
 *
 * Why a blob in use stays: it is a candidate only when its last storing lies back by the time of grace, and is deleted only
 * if that still holds then. The manifests are read after the candidates are known. So a manifest that this has not seen was
 * written later, and its blobs were stored or renewed shortly before it.
 */
export async function collectGarbage(objects: Objects, options: CollectionOptions = {}): Promise<Collection> {
  const { graceMs = GRACE_MS, maxCandidates = MAX_CANDIDATES, signal } = options;
  const beforeMs = Date.now() - graceMs;
  const collected: Collection = { deletedBlobs: 0, deletedBytes: 0 };
  const candidates = new Map<string, number>();
  const sweep = async (): Promise<void> => {
    await spareNamed(objects, candidates, signal);
    for (const [sha256, size] of candidates) {
      signal?.throwIfAborted();
      if (!(await objects.delete(sha256, beforeMs))) continue;
      collected.deletedBlobs++;
      collected.deletedBytes += size;
    }
    candidates.clear();
  };

  await objects.removeUnfinished(beforeMs);
  for await (const { sha256, size, storedMs } of objects.blobs()) {
    signal?.throwIfAborted();
    if (storedMs < beforeMs) candidates.set(sha256, size);
    if (candidates.size >= maxCandidates) await sweep();
  }
  if (candidates.size > 0) await sweep();
  return collected;
}

/** Takes every blob that a manifest names out of the candidates. */
async function spareNamed(objects: Objects, candidates: Map<string, number>, signal?: AbortSignal): Promise<void> {
  for await (const workspace of objects.workspaces()) {
    signal?.throwIfAborted();
    await spareNamedBy(objects, workspace, candidates);
  }
}

/** A version goes only after a newer one has come: when one is gone that was listed, the list is made anew. */
async function spareNamedBy(objects: Objects, workspace: string, candidates: Map<string, number>): Promise<void> {
  const read = new Set<number>();
  for (let attempt = 1; attempt <= MAX_READS; attempt++) {
    let isWhole = true;
    for (const version of await objects.versions(workspace)) {
      if (read.has(version)) continue;
      const manifest = await objects.getManifest(workspace, version);
      if (manifest === null) isWhole = false;
      else read.add(version);
      for (const { sha256 } of manifest?.entries ?? []) candidates.delete(sha256);
    }
    if (isWhole) return;
  }
  throw new Error(`the versions of workspace ${workspace} change too often to be read`);
}
