import type { S3 } from "@aws-sdk/client-s3";
import { AppError } from "../../errors.ts";

/** What is read of an error of the client library. */
type Fault = { name: string; message: string; $metadata?: { httpStatusCode?: number } };

export type Listed = { key: string; size: number; storedMs: number };

const REQUEST_MS = 10_000;
/** A part of an upload, or a copy within the store, which takes the longer the larger it is. */
const TRANSFER_MS = 120_000;

/** One bucket of an S3 store, and what goes wrong with it. */
export class Bucket {
  readonly s3: S3;
  readonly name: string;

  constructor(s3: S3, name: string) {
    this.s3 = s3;
    this.name = name;
  }

  /** Does one request, given up after a while. Throws AppError, except for what `faultOf` tells apart. */
  async ask<T>(request: (abort: { abortSignal: AbortSignal }) => Promise<T>): Promise<T> {
    return this.#within(REQUEST_MS, request);
  }

  /** The same for a request that moves many bytes. */
  async transfer<T>(request: (abort: { abortSignal: AbortSignal }) => Promise<T>): Promise<T> {
    return this.#within(TRANSFER_MS, request);
  }

  async #within<T>(limitMs: number, request: (abort: { abortSignal: AbortSignal }) => Promise<T>): Promise<T> {
    const abort = new AbortController();
    const timer = setTimeout(() => abort.abort(), limitMs);
    try {
      return await request({ abortSignal: abort.signal });
    } catch (error) {
      throw translated(error);
    } finally {
      clearTimeout(timer);
    }
  }

  /** Every object whose key starts with `prefix`, in order of the keys. */
  async *list(prefix: string): AsyncIterable<Listed> {
    for await (const page of this.#pages({ Prefix: prefix }))
      for (const { Key = "", Size = 0, LastModified } of page.Contents ?? [])
        yield { key: Key, size: Size, storedMs: LastModified?.getTime() ?? 0 };
  }

  /** The names directly below `prefix` that have something below them. */
  async *folders(prefix: string): AsyncIterable<string> {
    for await (const page of this.#pages({ Prefix: prefix, Delimiter: "/" }))
      for (const { Prefix = "" } of page.CommonPrefixes ?? []) yield Prefix.slice(prefix.length, -1);
  }

  async *#pages(input: { Prefix: string; Delimiter?: string }) {
    let token: string | undefined;
    do {
      const more = token === undefined ? {} : { ContinuationToken: token };
      const page = await this.ask((abort) => this.s3.listObjectsV2({ Bucket: this.name, ...input, ...more }, abort));
      yield page;
      token = page.NextContinuationToken;
    } while (token !== undefined);
  }

  /** Bytes `start` to before `end`, fewer where the object ends, in the chunks in which they came. */
  async read(key: string, start: number, end: number): Promise<Uint8Array[]> {
    const input = { Bucket: this.name, Key: key, Range: `bytes=${start}-${end - 1}` };
    return this.transfer(async (abort) => {
      const { Body } = await this.s3.getObject(input, abort);
      const chunks: Uint8Array[] = [];
      for await (const chunk of Body as unknown as AsyncIterable<Uint8Array>) chunks.push(chunk);
      return chunks;
    });
  }

  async put(key: string, body: Uint8Array): Promise<void> {
    await this.transfer((abort) => this.s3.putObject({ Bucket: this.name, Key: key, Body: body }, abort));
  }

  /** False when there is no such object any more. */
  async copy(from: string, to: string): Promise<boolean> {
    try {
      const source = `${this.name}/${from}`;
      await this.transfer((abort) => this.s3.copyObject({ Bucket: this.name, Key: to, CopySource: source }, abort));
      return true;
    } catch (error) {
      if (faultOf(error) === "NoSuchKey") return false;
      throw error;
    }
  }

  async remove(key: string): Promise<void> {
    await this.ask((abort) => this.s3.deleteObject({ Bucket: this.name, Key: key }, abort));
  }
}

/** The name of what the store refused, for what callers tell apart. */
export function faultOf(error: unknown): string {
  return error instanceof AppError ? "" : (error as Fault).name;
}

/** Names that callers look at. */
const EXPECTED = new Set(["NoSuchKey", "NoSuchUpload", "NotFound", "PreconditionFailed", "ConditionalRequestConflict"]);
const FULL = new Set(["XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "QuotaExceeded", "InsufficientStorage"]);

function translated(error: unknown): unknown {
  if (error instanceof AppError) return error;
  const { name, $metadata } = error as Fault;
  if (EXPECTED.has(name)) return error;
  if (FULL.has(name) || $metadata?.httpStatusCode === 507)
    return new AppError("disk_full", "the object store is full", { cause: error });
  return new AppError("store_unavailable", "the object store can't be used now", { cause: error, retryAfterS: 1 });
}
