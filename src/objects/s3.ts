import type { S3 } from "@aws-sdk/client-s3";
import type { S3Config } from "../config.ts";
import { AppError } from "../errors.ts";
import { checkedHash, checkedWorkspace, isHash } from "./names.ts";
import type {
  BlobBody,
  BlobListing,
  ByteRange,
  Manifest,
  Objects,
  PresignOptions,
  PutOptions,
  StoredBlob,
} from "./objects.ts";
import { Bucket, faultOf, type Listed } from "./s3/bucket.ts";
import { openDownload } from "./s3/download.ts";
import { ensureBucket, inspectBucket, type StartOptions } from "./s3/start.ts";
import { upload } from "./s3/upload.ts";
import { verifiedStream } from "./verified-stream.ts";

const INCOMING = "incoming/";
/** For how long a copy stays when there is a newer one: URLs to it have then expired. */
const SUPERSEDED_MS = 24 * 3600 * 1000;
const RACES = 5;

type PresignUrl = (key: string, options: PresignOptions) => Promise<string>;

/**
 * `blobs/<hash>/<copy>`, `manifests/<workspace>/<version>.json`, and `incoming/` for large bodies whose hash is not known
 * yet. Every time a blob is stored or renewed it is another copy, under a key that nobody else writes or has decided to
 * delete; the blob is there while one of them is. Any number of processes may use the bucket.
 */
class S3Objects implements Objects {
  readonly givesUrls = true;
  readonly #bucket: Bucket;
  readonly #presignUrl: PresignUrl;

  constructor(bucket: Bucket, presignUrl: PresignUrl) {
    this.#bucket = bucket;
    this.#presignUrl = presignUrl;
  }

  async put(body: ReadableStream<Uint8Array>, options: PutOptions = {}): Promise<StoredBlob> {
    if (options.sha256 !== undefined) checkedHash(options.sha256);
    return upload(this.#bucket, body, options, newCopy, `${INCOMING}${crypto.randomUUID()}`);
  }

  /** The copies of a blob, newest first. */
  async #copies(sha256: string): Promise<Listed[]> {
    const copies: Listed[] = [];
    for await (const copy of this.#bucket.list(`blobs/${checkedHash(sha256)}/`)) copies.push(copy);
    return copies.toSorted((a, b) => b.storedMs - a.storedMs);
  }

  async get(sha256: string, range?: ByteRange): Promise<BlobBody | null> {
    const [found] = await this.#copies(sha256);
    if (found === undefined) return null;
    const { size } = found;
    const { start, end } = range ?? { start: 0, end: size };
    if (!(start >= 0 && start <= end && end <= size))
      throw new AppError("range_not_satisfiable", `the blob has ${size} bytes`);
    let known: string | null = found.key;
    const locate = async (): Promise<string | null> => {
      const key = known ?? (await this.#copies(sha256))[0]?.key ?? null;
      known = null;
      return key;
    };
    const source = await openDownload(this.#bucket, locate, start, end);
    const whole = start === 0 && end === size;
    return source === null ? null : { size, body: verifiedStream(source, whole ? sha256 : null) };
  }

  async has(sha256: string): Promise<number | null> {
    return (await this.#copies(sha256))[0]?.size ?? null;
  }

  async renew(sha256: string, sinceMs: number): Promise<boolean> {
    for (let attempt = 1; attempt <= RACES; attempt++) {
      const [newest, ...older] = await this.#copies(sha256);
      if (newest === undefined) return false;
      if (newest.storedMs >= sinceMs) return true;
      if (!(await this.#bucket.copy(newest.key, newCopy(sha256)))) continue;
      if (newest.storedMs < Date.now() - SUPERSEDED_MS) for (const { key } of older) await this.#bucket.remove(key);
      return true;
    }
    throw new AppError("store_unavailable", "the blob changes too often", { retryAfterS: 1 });
  }

  async delete(sha256: string, storedBeforeMs = Number.POSITIVE_INFINITY): Promise<boolean> {
    const copies = await this.#copies(sha256);
    const old = copies.filter((copy) => copy.storedMs < storedBeforeMs);
    if (old.length < copies.length) return false;
    for (const { key } of old) await this.#bucket.remove(key);
    return old.length > 0;
  }

  async *blobs(): AsyncIterable<BlobListing> {
    let current: BlobListing = { sha256: "", size: 0, storedMs: 0 };
    for await (const { key, size, storedMs } of this.#bucket.list("blobs/")) {
      const sha256 = key.split("/")[1] ?? "";
      if (sha256 === current.sha256) current.storedMs = Math.max(current.storedMs, storedMs);
      else {
        if (isHash(current.sha256)) yield current;
        current = { sha256, size, storedMs };
      }
    }
    if (isHash(current.sha256)) yield current;
  }

  async removeUnfinished(begunBeforeMs: number): Promise<void> {
    const { s3, name } = this.#bucket;
    for await (const { key, storedMs } of this.#bucket.list(INCOMING))
      if (storedMs < begunBeforeMs) await this.#bucket.remove(key);
    const { Uploads = [] } = await this.#bucket.ask((abort) => s3.listMultipartUploads({ Bucket: name }, abort));
    for (const { Key, UploadId, Initiated } of Uploads) {
      const isOurs = Key?.startsWith("blobs/") === true || Key?.startsWith(INCOMING) === true;
      if (!isOurs || (Initiated?.getTime() ?? Infinity) >= begunBeforeMs) continue;
      const target = { Bucket: name, Key, UploadId };
      await this.#bucket.ask((abort) => s3.abortMultipartUpload(target, abort)).catch(unless("NoSuchUpload"));
    }
  }

  async presign(sha256: string, options: PresignOptions): Promise<string | null> {
    const [newest] = await this.#copies(sha256);
    return newest === undefined ? null : this.#presignUrl(newest.key, options);
  }

  async putManifest(workspace: string, manifest: Manifest): Promise<void> {
    const { s3, name } = this.#bucket;
    const key = manifestKey(workspace, manifest.version);
    const writer = crypto.randomUUID();
    const object = { Bucket: name, Key: key, Body: JSON.stringify(manifest), Metadata: { writer }, IfNoneMatch: "*" };
    try {
      await this.#bucket.transfer((abort) => s3.putObject(object, abort));
    } catch (error) {
      if (!["PreconditionFailed", "ConditionalRequestConflict"].includes(faultOf(error))) throw error;
      // A request that was sent again, as its answer was lost, meets what it wrote itself.
      if ((await this.#writerOf(key)) !== writer)
        throw new AppError("file_conflict", "this version exists already", { cause: error });
    }
  }

  /** Who wrote a manifest; undefined when it is gone, as older versions go. */
  async #writerOf(key: string): Promise<string | undefined> {
    const { s3, name } = this.#bucket;
    try {
      const found = await this.#bucket.ask((abort) => s3.headObject({ Bucket: name, Key: key }, abort));
      return found.Metadata?.["writer"];
    } catch (error) {
      if (faultOf(error) === "NotFound") return undefined;
      throw error;
    }
  }

  async getManifest(workspace: string, version: number): Promise<Manifest | null> {
    const { s3, name } = this.#bucket;
    const object = { Bucket: name, Key: manifestKey(workspace, Math.trunc(version)) };
    try {
      const text = await this.#bucket.transfer(async (abort) =>
        (await s3.getObject(object, abort)).Body?.transformToString(),
      );
      return JSON.parse(text ?? "null") as Manifest | null;
    } catch (error) {
      if (faultOf(error) === "NoSuchKey") return null;
      throw error;
    }
  }

  async versions(workspace: string): Promise<number[]> {
    const versions: number[] = [];
    for await (const { key } of this.#bucket.list(manifestPrefix(workspace)))
      versions.push(Number.parseInt(key.slice(key.lastIndexOf("/") + 1), 10));
    return versions.toSorted((a, b) => a - b);
  }

  workspaces(): AsyncIterable<string> {
    return this.#bucket.folders("manifests/");
  }

  async deleteManifests(workspace: string, before = Number.POSITIVE_INFINITY): Promise<void> {
    for (const version of await this.versions(workspace))
      if (version < before) await this.#bucket.remove(manifestKey(workspace, version));
  }
}

function newCopy(sha256: string): string {
  return `blobs/${sha256}/${crypto.randomUUID()}`;
}

function manifestPrefix(workspace: string): string {
  return `manifests/${checkedWorkspace(workspace)}/`;
}

function manifestKey(workspace: string, version: number): string {
  return `${manifestPrefix(workspace)}${version}.json`;
}

function unless(fault: string): (error: unknown) => void {
  return (error) => {
    if (faultOf(error) !== fault) throw error;
  };
}

const DEFAULTS: StartOptions = { waitMs: 60_000, onWaiting: () => {} };

/**
 * Opens the object store in a bucket, which is made if it is missing. Waits for a store that can't be reached yet. Throws
 * ConfigError for what the operator must change. Loads the client library, which nothing else does.
 */
export async function openS3Objects(config: S3Config, options: Partial<StartOptions> = {}): Promise<Objects> {
  const [{ GetObjectCommand }, { getSignedUrl }] = await Promise.all([
    import("@aws-sdk/client-s3"),
    import("@aws-sdk/s3-request-presigner"),
  ]);
  const s3 = await clientOf(config, config.endpointUrl);
  const { bucket } = config;
  await ensureBucket(s3, config, { ...DEFAULTS, ...options });
  const atPublic = await clientOf(config, config.publicEndpointUrl);
  return new S3Objects(new Bucket(s3, bucket), (key, { expiresS, contentType, contentDisposition }) => {
    const answer = { ResponseContentType: contentType, ResponseContentDisposition: contentDisposition };
    return getSignedUrl(atPublic, new GetObjectCommand({ Bucket: bucket, Key: key, ...answer }), {
      expiresIn: expiresS,
    });
  });
}

/**
 * Looks whether the bucket can be read and written, by an object that is removed again. What it found, in words; throws
 * ConfigError that says why it can't be used. Makes no bucket.
 */
export async function inspectS3(config: S3Config): Promise<string> {
  return inspectBucket(await clientOf(config, config.endpointUrl), config, `${INCOMING}${crypto.randomUUID()}`);
}

async function clientOf(config: S3Config, endpoint: string): Promise<S3> {
  const { S3 } = await import("@aws-sdk/client-s3");
  return new S3({
    endpoint,
    region: config.region,
    credentials: { accessKeyId: config.accessKeyId, secretAccessKey: config.secretAccessKey },
    forcePathStyle: true,
    maxAttempts: 3,
    // Other stores than Amazon's take no checksums that S3 does not require; hashes are checked here.
    requestChecksumCalculation: "WHEN_REQUIRED",
    responseChecksumValidation: "WHEN_REQUIRED",
    requestHandler: { connectionTimeout: 2000, httpAgent: { maxSockets: 256 }, httpsAgent: { maxSockets: 256 } },
  });
}
