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

export type BlobListing = StoredBlob & { storedMs: number };

export type ManifestEntry = {
  /** Relative to the workspace, with `/`. */
  path: string;
  /** Permission bits, octal, such as "0644". */
  mode: string;
  size: number;
  sha256: string;
};

/** The files of one version of a workspace. Versions of a workspace count up and never change. */
export type Manifest = { version: number; created_at: string; entries: ManifestEntry[] };

export type PutOptions = {
  /** The hash that the bytes must have; others are refused with `bad_request`. */
  sha256?: string;
  /** Most bytes that are taken; more are refused with `body_too_large`. */
  limitBytes?: number;
};

/**
 * Content-addressed bytes, and manifests that name them. Bodies stream both ways: memory does not grow with them. What a
 * call has stored survives a crash of the machine; a call that failed leaves nothing. Throws AppError: `disk_full`,
 * `store_unavailable`, and what is said below.
 */
export interface Objects {
  /** Stores the bytes. The same bytes again are the same blob, whose `storedMs` is then renewed. */
  put(body: ReadableStream<Uint8Array>, options?: PutOptions): Promise<StoredBlob>;
  /** Null when there is no such blob. `range_not_satisfiable` when `range` is not within it. */
  get(sha256: string, range?: ByteRange): Promise<BlobBody | null>;
  /** Its size, or null when there is no such blob. */
  has(sha256: string): Promise<number | null>;
  delete(sha256: string): Promise<boolean>;
  /** Every blob, in no order. */
  blobs(): AsyncIterable<BlobListing>;

  /** `file_conflict` when this version exists already. */
  putManifest(workspace: string, manifest: Manifest): Promise<void>;
  getManifest(workspace: string, version: number): Promise<Manifest | null>;
  /** The versions that exist, ascending. */
  versions(workspace: string): Promise<number[]>;
  /** Removes every version; the blobs stay. Idempotent. */
  deleteManifests(workspace: string): Promise<void>;
}
