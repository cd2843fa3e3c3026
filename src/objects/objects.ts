/** Bytes by the SHA-256 of them (64 hexadecimal digits, lower case). */
export type StoredBlob = { sha256: string; size: number };

/** Bytes `start` to before `end`, counted from 0. */
export type ByteRange = { start: number; end: number };

export type BlobBody = {
  /** Bytes of the whole blob, also when a range of it was asked for. */
  size: number;
  /** Errors instead of closing when the whole was read and its hash is not the blob's. Cancel it to free what it holds. */
  body: ReadableStream<Uint8Array>;
};

/** `storedMs`: when it was last stored or renewed, by the store's clock. */
export type BlobListing = StoredBlob & { storedMs: number };

export type ManifestEntry = {
  /** Relative to the workspace, with `/`. */
  path: string;
  /** Permission bits, octal, such as "0644". */
  mode: string;
  size: number;
  sha256: string;
  /** Milliseconds since the epoch. */
  modified_ms?: number;
};

/** What a workspace holds: files, and beside them directories (also empty ones) and symbolic links, which have no blobs. */
export type VersionContent = {
  entries: ManifestEntry[];
  directories?: { path: string; mode: string }[];
  links?: { path: string; target: string }[];
};

/** The files of one version of a workspace. Versions of a workspace count up and never change. */
export type Manifest = VersionContent & { version: number; created_at: string };

export type PutOptions = {
  /** The hash that the bytes must have; others are refused with `bad_request`. */
  sha256?: string;
  /** Most bytes that are taken; more are refused with `body_too_large`. */
  limitBytes?: number;
};

export type PresignOptions = {
  /** Seconds for which the URL works, at most a day. */
  expiresS: number;
  /** Headers that the answer to the URL has. */
  contentType: string;
  contentDisposition: string;
};

/**
 * Content-addressed bytes, and manifests that name them. Bodies stream both ways: memory does not grow with them. What a
 * call has stored survives a crash of the machine; a call that failed leaves nothing that can be seen. Throws AppError:
 * `disk_full`, `store_unavailable`, and what is said below.
 *
 * Blobs that no manifest names are garbage, which a collection deletes some time after they were stored. Who is about to
 * name blobs in a manifest therefore stores or renews each of them before (`storeVersion` does all of it).
 */
export interface Objects {
  /** Stores the bytes. The same bytes again are the same blob, whose `storedMs` is then renewed. */
  put(body: ReadableStream<Uint8Array>, options?: PutOptions): Promise<StoredBlob>;
  /** Null when there is no such blob. `range_not_satisfiable` when `range` is not within it. */
  get(sha256: string, range?: ByteRange): Promise<BlobBody | null>;
  /** Its size, or null when there is no such blob. */
  has(sha256: string): Promise<number | null>;
  /** Has a blob count as stored now unless it was stored since `sinceMs`. False when there is no such blob. */
  renew(sha256: string, sinceMs: number): Promise<boolean>;
  /** With `storedBeforeMs`: only while it was last stored before then, also when somebody stores it meanwhile. */
  delete(sha256: string, storedBeforeMs?: number): Promise<boolean>;
  /** Every blob, in no order. */
  blobs(): AsyncIterable<BlobListing>;
  /** Removes what was begun before then and never came to its end. */
  removeUnfinished(begunBeforeMs: number): Promise<void>;
  /** Whether `presign` can give URLs. */
  readonly givesUrls: boolean;
  /** A URL from which anybody can download the blob; null when there is no such blob or the store gives no URLs. */
  presign(sha256: string, options: PresignOptions): Promise<string | null>;

  /** `file_conflict` when this version exists already. */
  putManifest(workspace: string, manifest: Manifest): Promise<void>;
  getManifest(workspace: string, version: number): Promise<Manifest | null>;
  /** The versions that exist, ascending. */
  versions(workspace: string): Promise<number[]>;
  /** Every workspace that has a version, in no order. */
  workspaces(): AsyncIterable<string>;
  /** Removes every version, or those below `before`; the blobs stay. Idempotent. */
  deleteManifests(workspace: string, before?: number): Promise<void>;
}
