import { createHash } from "node:crypto";
import { AppError } from "../errors.ts";
import { GRACE_MS } from "./garbage.ts";
import type { Manifest, ManifestEntry, Objects, VersionContent } from "./objects.ts";

/** Blobs of up to so many bytes are stored many at a time, as each mostly waits; larger ones take memory (s3/upload.ts). */
const SMALL_BYTES = 64 * 1024;
const CONCURRENCY = { small: 12, large: 2 };

export type StoreOptions = {
  /** As the collections have it. */
  graceMs?: number;
  now?: () => Date;
  /** Takes files that changed meanwhile as `open` gives them now, and leaves out those that are gone; else both are refused. */
  takesChanges?: boolean;
};

/** The bytes of an entry. `file_not_found` when there is no such file any more. */
type Open = (entry: ManifestEntry) => Promise<ReadableStream<Uint8Array>>;

/** The newest version of a workspace, or null when it has none. */
export async function latestVersion(objects: Objects, workspace: string): Promise<Manifest | null> {
  // A version goes only after a newer one has come, and may do so between the two calls.
  for (let attempt = 1; attempt <= 10; attempt++) {
    const last = (await objects.versions(workspace)).at(-1);
    if (last === undefined) return null;
    const manifest = await objects.getManifest(workspace, last);
    if (manifest !== null) return manifest;
  }
  throw new AppError("store_unavailable", "the versions of the workspace change too often", { retryAfterS: 1 });
}

/**
 * Stores the version of a workspace that follows `previous` (null: the first): the blobs that are not there yet, read by
 * `open`, then the manifest. When it has resolved, no collection deletes what the version names. Throws `file_conflict` when
 * somebody else has stored that version; so whoever read `content` after `previous` never puts an older state over a newer.
 * Without `takesChanges`, a file whose bytes are not those of its entry is `bad_request` or `body_too_large`.
 */
export async function storeVersion(
  objects: Objects,
  workspace: string,
  previous: Manifest | null,
  content: VersionContent,
  open: Open,
  options: StoreOptions = {},
): Promise<Manifest> {
  const { graceMs = GRACE_MS, now = () => new Date(), takesChanges = false } = options;
  const blobs = new Blobs(objects, open, graceMs, takesChanges);
  const kept = new Set(previous?.entries.map(contentOf));
  for (const one of kept) blobs.had.add(one);
  let { entries } = content;

  // What the previous version names stays for as long as that one is there, and it goes only after this one has come.
  const secureFresh = async (): Promise<boolean> => {
    const { isQuick, replaced } = await blobs.secure(entries.filter((entry) => !kept.has(contentOf(entry))));
    entries = entries.flatMap((entry) => (replaced.has(entry) ? (replaced.get(entry) ?? []) : entry));
    return isQuick;
  };
  while (!(await secureFresh()));
  const begun = performance.now();
  const version = (previous?.version ?? 0) + 1;
  const manifest: Manifest = { version, created_at: now().toISOString(), ...content, entries };
  await objects.putManifest(workspace, manifest);
  // A collection may have missed a manifest that took long to be written. From now on none does.
  if (performance.now() - begun > graceMs / 4) await blobs.secure(entries);
  return manifest;
}

/** The same for entries of the same bytes. */
function contentOf({ sha256, size }: ManifestEntry): string {
  return `${sha256} ${size}`;
}

class Blobs {
  /** Contents of which the workspace was seen to have the bytes. */
  readonly had = new Set<string>();
  readonly #objects: Objects;
  readonly #open: Open;
  readonly #graceMs: number;
  readonly #takesChanges: boolean;

  constructor(objects: Objects, open: Open, graceMs: number, takesChanges: boolean) {
    this.#objects = objects;
    this.#open = open;
    this.#graceMs = graceMs;
    this.#takesChanges = takesChanges;
  }

  /**
   * Renews or stores each blob. `isQuick` is false when that took so long that the first may be old again. `replaced`: what
   * came in the place of entries whose files changed, null for those that are gone.
   */
  async secure(
    entries: readonly ManifestEntry[],
  ): Promise<{ isQuick: boolean; replaced: Map<ManifestEntry, ManifestEntry | null> }> {
    const begun = performance.now();
    const sinceMs = Date.now() - this.#graceMs / 4;
    const replaced = new Map<ManifestEntry, ManifestEntry | null>();
    const groups = [...Map.groupBy(entries, contentOf).values()];
    const worker = async (waiting: ManifestEntry[][]): Promise<void> => {
      for (let same = waiting.pop(); same !== undefined; same = waiting.pop())
        for (const entry of same) {
          const found = await this.#secureOne(entry, sinceMs);
          if (found === entry) break;
          replaced.set(entry, found);
        }
    };
    const isSmall = ([first]: ManifestEntry[]): boolean => (first?.size ?? 0) <= SMALL_BYTES;
    const small = groups.filter(isSmall);
    const large = groups.filter((group) => !isSmall(group));
    const workers = (waiting: ManifestEntry[][], count: number) => Array.from({ length: count }, () => worker(waiting));
    await Promise.all([...workers(small, CONCURRENCY.small), ...workers(large, CONCURRENCY.large)]);
    return { isQuick: performance.now() - begun <= this.#graceMs / 4, replaced };
  }

  /** The entry itself, or what its file is now; null when it is gone. */
  async #secureOne(entry: ManifestEntry, sinceMs: number): Promise<ManifestEntry | null> {
    const { sha256, size } = entry;
    if (await this.#isStored(entry, sinceMs)) return entry;
    try {
      const stored = await this.#objects.put(await this.#open(entry), { sha256, limitBytes: size });
      if (stored.size < size) throw new AppError("bad_request", `the file has ${stored.size} bytes, not ${size}`);
      this.had.add(contentOf(entry));
      return entry;
    } catch (error) {
      if (!this.#takesChanges || !isChange(error)) throw error;
      if (GONE.has(error.code)) return null;
    }
    try {
      const changed = { ...entry, ...(await this.#objects.put(await this.#open(entry), { limitBytes: size })) };
      this.had.add(contentOf(changed));
      return changed;
    } catch (error) {
      if (isChange(error) && GONE.has(error.code)) return null;
      throw error;
    }
  }

  /** Renews the blob. Who names a hash must also have its bytes, which may be another tenant's. */
  async #isStored(entry: ManifestEntry, sinceMs: number): Promise<boolean> {
    if (!this.had.has(contentOf(entry))) {
      if ((await this.#objects.has(entry.sha256)) !== entry.size || !(await this.#isHad(entry))) return false;
      this.had.add(contentOf(entry));
    }
    return this.#objects.renew(entry.sha256, sinceMs);
  }

  async #isHad(entry: ManifestEntry): Promise<boolean> {
    const hash = createHash("sha256");
    let size = 0;
    try {
      for await (const chunk of await this.#open(entry)) {
        size += chunk.length;
        if (size > entry.size) return false;
        hash.update(chunk);
      }
    } catch (error) {
      if (isChange(error)) return false;
      throw error;
    }
    return size === entry.size && hash.digest("hex") === entry.sha256;
  }
}

/** What a path answers at which there is no file any more, but nothing, a directory or a link that leads out. */
const GONE = new Set<string>(["file_not_found", "file_conflict", "invalid_path"]);
const CHANGES = new Set<string>([...GONE, "bad_request", "body_too_large", "range_not_satisfiable"]);

function isChange(error: unknown): error is AppError {
  return error instanceof AppError && CHANGES.has(error.code);
}
