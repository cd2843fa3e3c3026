import { GRACE_MS } from "./garbage.ts";
import type { Manifest, ManifestEntry, Objects } from "./objects.ts";

/** Blobs that are stored at once. */
const CONCURRENCY = 4;

export type StoreOptions = {
  /** As the collections have it. */
  graceMs?: number;
  now?: () => Date;
};

/**
 * Stores the next version of a workspace: the blobs of `entries` that are not there yet, read by `open`, then the manifest.
 * When it has resolved, no collection deletes what the version names. Throws `bad_request` for a file whose bytes are not
 * those of its entry (it changed meanwhile), `file_conflict` when somebody else has stored this version.
 */
export async function storeVersion(
  objects: Objects,
  workspace: string,
  entries: readonly ManifestEntry[],
  open: (entry: ManifestEntry) => Promise<ReadableStream<Uint8Array>>,
  options: StoreOptions = {},
): Promise<Manifest> {
  const { graceMs = GRACE_MS, now = () => new Date() } = options;
  const last = (await objects.versions(workspace)).at(-1) ?? 0;
  const previous = last === 0 ? null : await objects.getManifest(workspace, last);
  const kept = new Set(previous?.entries.map((entry) => entry.sha256));
  // What the previous version names stays for as long as that one is there, and it goes only after this one has come.
  const fresh = entries.filter((entry) => !kept.has(entry.sha256));
  const secure = (of: readonly ManifestEntry[]): Promise<boolean> => secureBlobs(objects, of, open, graceMs);

  while (!(await secure(fresh)));
  const begun = performance.now();
  const manifest: Manifest = { version: last + 1, created_at: now().toISOString(), entries: [...entries] };
  await objects.putManifest(workspace, manifest);
  // A collection may have missed a manifest that took long to be written. From now on none does.
  if (performance.now() - begun > graceMs / 4) await secure(entries);
  return manifest;
}

/** Renews or stores each blob; false when that took so long that the first may be old again. */
async function secureBlobs(
  objects: Objects,
  entries: readonly ManifestEntry[],
  open: (entry: ManifestEntry) => Promise<ReadableStream<Uint8Array>>,
  graceMs: number,
): Promise<boolean> {
  const begun = performance.now();
  const sinceMs = Date.now() - graceMs / 4;
  const waiting = [...new Map(entries.map((entry) => [entry.sha256, entry])).values()];
  const worker = async (): Promise<void> => {
    for (let entry = waiting.pop(); entry !== undefined; entry = waiting.pop()) {
      const { sha256, size } = entry;
      if (!(await objects.renew(sha256, sinceMs))) await objects.put(await open(entry), { sha256, limitBytes: size });
    }
  };
  await Promise.all(Array.from({ length: CONCURRENCY }, worker));
  return performance.now() - begun <= graceMs / 4;
}
