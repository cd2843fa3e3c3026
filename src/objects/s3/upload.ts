import { createHash } from "node:crypto";
import { AppError } from "../../errors.ts";
import type { PutOptions, StoredBlob } from "../objects.ts";
import type { Bucket } from "./bucket.ts";

/** The least that S3 takes as a part; and what is kept in memory of a body. */
const PART_BYTES = 5 * 1024 ** 2;
/** Room for a body at first, as most are small. */
const FIRST_BYTES = 64 * 1024;
/** The most that S3 copies at once. */
const MAX_BYTES = 5 * 1024 ** 3;

/**
 * Stores the body under the key that `keyOf` gives its hash. A body of one part goes there at once. A larger one is put
 * together by the store, and can be seen only when it is whole: under that key when its hash is known beforehand, else
 * under `temporary`, from where the store copies it.
 */
export async function upload(
  bucket: Bucket,
  body: ReadableStream<Uint8Array>,
  { sha256, limitBytes = MAX_BYTES }: PutOptions,
  keyOf: (sha256: string) => string,
  temporary: string,
): Promise<StoredBlob> {
  const hash = createHash("sha256");
  const key = sha256 === undefined ? temporary : keyOf(sha256);
  let parts: Parts | null = null;
  let size = 0;
  try {
    let last: Uint8Array = new Uint8Array();
    for await (const part of inParts(body, Math.min(limitBytes, MAX_BYTES))) {
      size += part.length;
      hash.update(part);
      if (part.length === PART_BYTES) {
        parts ??= await Parts.begin(bucket, key);
        await parts.add(part);
      } else last = part;
    }
    const found = hash.digest("hex");
    if (sha256 !== undefined && sha256 !== found)
      throw new AppError("bad_request", `the bytes have SHA-256 ${found}, not ${sha256}`);
    if (parts === null) await bucket.put(keyOf(found), last);
    else {
      if (last.length > 0) await parts.add(last);
      await parts.end();
      if (sha256 === undefined) await move(bucket, temporary, keyOf(found));
    }
    return { sha256: found, size };
  } catch (error) {
    await parts?.abort();
    throw error;
  }
}

async function move(bucket: Bucket, from: string, to: string): Promise<void> {
  if (!(await bucket.copy(from, to)))
    throw new AppError("store_unavailable", "an upload was removed before it came to its end", { retryAfterS: 1 });
  await bucket.remove(from);
}

/**
 * The body in pieces of exactly a part's size, but for the last. A piece is overwritten when the next is asked for. Throws
 * `body_too_large`.
 */
async function* inParts(body: ReadableStream<Uint8Array>, limitBytes: number): AsyncIterable<Uint8Array> {
  let part = new Uint8Array(FIRST_BYTES);
  let kept = 0;
  let size = 0;
  for await (const chunk of body) {
    size += chunk.length;
    if (size > limitBytes) throw new AppError("body_too_large", `at most ${limitBytes} bytes`);
    for (let rest = chunk; rest.length > 0;) {
      const head = rest.subarray(0, PART_BYTES - kept);
      if (kept + head.length > part.length) part = grown(part, kept);
      part.set(head, kept);
      kept += head.length;
      rest = rest.subarray(head.length);
      if (kept < PART_BYTES) continue;
      yield part;
      kept = 0;
    }
  }
  if (kept > 0) yield part.subarray(0, kept);
}

/** A whole part's room for what outgrew its first. */
function grown(part: Uint8Array, kept: number): Uint8Array<ArrayBuffer> {
  const larger = new Uint8Array(PART_BYTES);
  larger.set(part.subarray(0, kept));
  return larger;
}

/** A multipart upload. */
class Parts {
  readonly #bucket: Bucket;
  readonly #target: { Bucket: string; Key: string; UploadId: string };
  readonly #done: { PartNumber: number; ETag: string }[] = [];

  private constructor(bucket: Bucket, key: string, uploadId: string) {
    this.#bucket = bucket;
    this.#target = { Bucket: bucket.name, Key: key, UploadId: uploadId };
  }

  static async begin(bucket: Bucket, key: string): Promise<Parts> {
    const input = { Bucket: bucket.name, Key: key };
    const { UploadId = "" } = await bucket.ask((abort) => bucket.s3.createMultipartUpload(input, abort));
    return new Parts(bucket, key, UploadId);
  }

  async add(bytes: Uint8Array): Promise<void> {
    const number = this.#done.length + 1;
    const input = { ...this.#target, PartNumber: number, Body: bytes };
    const { ETag = "" } = await this.#bucket.transfer((abort) => this.#bucket.s3.uploadPart(input, abort));
    this.#done.push({ PartNumber: number, ETag });
  }

  async end(): Promise<void> {
    const input = { ...this.#target, MultipartUpload: { Parts: this.#done } };
    await this.#bucket.transfer((abort) => this.#bucket.s3.completeMultipartUpload(input, abort));
  }

  /** Best effort: what is left is removed as unfinished later. */
  async abort(): Promise<void> {
    await this.#bucket.ask((abort) => this.#bucket.s3.abortMultipartUpload(this.#target, abort)).catch(() => {});
  }
}
