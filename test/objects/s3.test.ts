import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { ListMultipartUploadsCommand, ListObjectsV2Command, PutObjectCommand, S3Client } from "@aws-sdk/client-s3";
import { createHash } from "node:crypto";
import { join } from "node:path";
import { ConfigError, type S3Config } from "../../src/config.ts";
import { openS3Objects } from "../../src/objects/s3.ts";
import type { Objects } from "../../src/objects/objects.ts";
import { garbageContract } from "../contracts/garbage.ts";
import { objectsContract } from "../contracts/objects.ts";
import { codeOf } from "../contracts/stores.ts";
import { Minio, minioMissing } from "../services.ts";

const MIB = 1024 ** 2;

describe.skipIf(minioMissing !== null)(minioMissing ?? "minio", () => {
  let server: Minio;
  let objects: Objects;
  let buckets = 0;
  beforeAll(async () => {
    server = await Minio.start();
    objects = await openS3Objects(config({ bucket: "tests" }));
  });
  afterAll(() => server.stop());

  const config = (fields: Partial<S3Config> = {}): S3Config => ({
    endpointUrl: server.url,
    publicEndpointUrl: server.url,
    accessKeyId: Minio.accessKeyId,
    secretAccessKey: Minio.secretAccessKey,
    region: "us-east-1",
    bucket: `bucket-${buckets++}`,
    ...fields,
  });
  const client = (): S3Client =>
    new S3Client({
      endpoint: server.url,
      region: "us-east-1",
      credentials: { accessKeyId: Minio.accessKeyId, secretAccessKey: Minio.secretAccessKey },
      forcePathStyle: true,
    });
  const open = async () => ({ objects: await openS3Objects(config()), close: async () => {} });
  /** A body of `count` MiB, each other bytes. */
  const large = (count: number): ReadableStream<Uint8Array> => {
    let i = 0;
    return new ReadableStream({
      pull: (controller) => (i < count ? controller.enqueue(new Uint8Array(MIB).fill(i++)) : controller.close()),
    });
  };
  const hashOf = async (stream: ReadableStream<Uint8Array>): Promise<string> => {
    const hash = createHash("sha256");
    for await (const chunk of stream) hash.update(chunk);
    return hash.digest("hex");
  };
  const keysBelow = async (bucket: string, prefix: string): Promise<string[]> => {
    const { Contents = [] } = await client().send(new ListObjectsV2Command({ Bucket: bucket, Prefix: prefix }));
    return Contents.map(({ Key = "" }) => Key);
  };

  objectsContract("minio", open);
  garbageContract("minio", open);

  describe("large bodies", () => {
    test("they are put together from parts, with and without a hash that is known before", async () => {
      const expected = await hashOf(large(17));
      for (const sha256 of [undefined, expected]) {
        const { objects: fresh } = await open();
        const stored = await fresh.put(large(17), sha256 === undefined ? {} : { sha256 });
        expect(stored).toEqual({ sha256: expected, size: 17 * MIB });
        expect(await hashOf((await fresh.get(expected))?.body ?? large(0))).toBe(expected);
        const range = await fresh.get(expected, { start: 5 * MIB - 1, end: 5 * MIB + 1 });
        expect([...new Uint8Array(await new Response(range?.body).arrayBuffer())]).toEqual([4, 5]);
      }
    });

    test("exactly one part, and other bytes than announced", async () => {
      expect((await objects.put(large(5))).size).toBe(5 * MIB);
      expect((await objects.put(large(10))).size).toBe(10 * MIB);
      expect(await codeOf(objects.put(large(11), { sha256: "0".repeat(64) }))).toBe("bad_request");
      expect(await objects.has("0".repeat(64))).toBeNull();
      expect(await codeOf(objects.put(large(12), { limitBytes: 7 * MIB }))).toBe("body_too_large");
      const left = await client().send(new ListMultipartUploadsCommand({ Bucket: "tests" }));
      expect(left.Uploads ?? []).toEqual([]);
      expect(await keysBelow("tests", "incoming/")).toEqual([]);
    });

    test("memory does not grow with them", async () => {
      await objects.put(large(12));
      Bun.gc(true);
      const before = process.memoryUsage().rss;
      let most = 0;
      // What is held, not what waits to be collected.
      const measured = (stream: ReadableStream<Uint8Array>) => {
        let passed = 0;
        const measure = new TransformStream<Uint8Array, Uint8Array>({
          transform(chunk, controller) {
            controller.enqueue(chunk);
            passed += chunk.length;
            if (passed < 16 * MIB) return;
            passed = 0;
            Bun.gc(true);
            most = Math.max(most, process.memoryUsage().rss - before);
          },
        });
        return stream.pipeThrough(measure);
      };
      const { sha256 } = await objects.put(measured(large(80)));
      expect(await hashOf(measured((await objects.get(sha256))?.body ?? large(0)))).toBe(sha256);
      expect(most).toBeLessThan(60 * MIB);
    }, 60_000);

    test("what a crash left half written is removed when it is old", async () => {
      const bucket = "left";
      const fresh = await openS3Objects(config({ bucket }));
      await client().send(new PutObjectCommand({ Bucket: bucket, Key: "incoming/x", Body: "half" }));
      await fresh.removeUnfinished(Date.now() - 60_000);
      expect(await keysBelow(bucket, "incoming/")).toEqual(["incoming/x"]);
      await fresh.removeUnfinished(Date.now() + 60_000);
      expect(await keysBelow(bucket, "incoming/")).toEqual([]);
    });
  });

  test("a blob that was damaged in the store is not given as whole", async () => {
    const { sha256 } = await objects.put(new Blob(["hello"]).stream());
    for (const damage of ["jello", "hell"]) {
      const [key = ""] = await keysBelow("tests", `blobs/${sha256}/`);
      await client().send(new PutObjectCommand({ Bucket: "tests", Key: key, Body: damage }));
      const found = await objects.get(sha256);
      expect(await codeOf(new Response(found?.body).text())).toBe("internal");
    }
  });

  test("a body whose copy gives way to another while it is read goes on from that", async () => {
    const { sha256 } = await objects.put(large(9));
    const reader = (await objects.get(sha256))?.body.getReader();
    const hash = createHash("sha256");
    const read = async () => {
      const { value } = (await reader?.read()) ?? {};
      if (value !== undefined) hash.update(value);
      return value !== undefined;
    };
    await read();
    const before = await keysBelow("tests", `blobs/${sha256}/`);
    expect(await objects.delete(sha256)).toBe(true);
    await objects.put(large(9));
    expect(await keysBelow("tests", `blobs/${sha256}/`)).not.toEqual(before);
    while (await read());
    expect(hash.digest("hex")).toBe(sha256);
  });

  test("a URL gives the bytes to anybody, as the file that it names, through the public endpoint", async () => {
    const elsewhere = server.url.replace("127.0.0.1", "localhost");
    const fresh = await openS3Objects(config({ publicEndpointUrl: elsewhere }));
    const { sha256 } = await fresh.put(new Blob(["to download"]).stream());
    const options = { expiresS: 60, contentType: "text/csv", contentDisposition: 'attachment; filename="a b.csv"' };
    const url = (await fresh.presign(sha256, options)) ?? "";
    expect(url).toStartWith(`${elsewhere}/`);
    const answer = await fetch(url);
    expect([answer.status, await answer.text()]).toEqual([200, "to download"]);
    expect(answer.headers.get("content-disposition")).toBe(options.contentDisposition);
    expect(answer.headers.get("content-type")).toBe("text/csv");
    expect((await fetch(url.replace(/blobs/, "manifests"))).status).toBe(403);
    expect(await fresh.presign("0".repeat(64), options)).toBeNull();
  });

  test("many replicas that start at once make the bucket together", async () => {
    const shared = config();
    const replicas = await Promise.all([1, 2, 3, 4].map(() => openS3Objects(shared)));
    const { sha256 } = (await replicas[0]?.put(new Blob(["shared"]).stream())) ?? { sha256: "" };
    expect(await replicas[3]?.has(sha256)).toBe(6);
  });

  describe("what the operator must change", () => {
    const refusal = async (fields: Partial<S3Config>): Promise<string> => {
      const error = await openS3Objects(config(fields), { waitMs: 0 }).catch((caught: unknown) => caught);
      expect(error).toBeInstanceOf(ConfigError);
      const { message } = error as ConfigError;
      expect(message).not.toContain("\n");
      return message;
    };

    test("keys, bucket and endpoint are named", async () => {
      expect(await refusal({ accessKeyId: "nobody" })).toStartWith("S3_ACCESS_KEY_ID=nobody is not known");
      const wrong = await refusal({ secretAccessKey: "not-the-key" });
      expect(wrong).toStartWith("S3_SECRET_ACCESS_KEY is not the one");
      expect(wrong).not.toContain("not-the-key");
      expect(await refusal({ bucket: "no..good" })).toStartWith("S3_BUCKET=no..good can't be used");
      const nobody = "http://127.0.0.1:1";
      expect(await refusal({ endpointUrl: nobody })).toBe(`S3_ENDPOINT_URL=${nobody} can't be reached: ECONNREFUSED`);
    });
  });

  test("a store that is gone is missed within a second, and used again when it is back", async () => {
    const { sha256 } = await objects.put(new Blob(["kept"]).stream());
    await server.kill();
    const start = performance.now();
    expect(await codeOf(objects.get(sha256))).toBe("store_unavailable");
    expect(await codeOf(objects.put(new Blob(["lost"]).stream()))).toBe("store_unavailable");
    expect(performance.now() - start).toBeLessThan(2000);
    const waiting = openS3Objects(config({ bucket: "tests" }), { waitMs: 10_000 });
    await server.start();
    expect(await new Response((await objects.get(sha256))?.body).text()).toBe("kept");
    expect(await (await waiting).has(sha256)).toBe(4);
  });
});

test("the client library is loaded only when a bucket is opened", async () => {
  const program = `
    await import(${JSON.stringify(join(import.meta.dir, "../../src/objects/s3.ts"))});
    const loaded = () => Object.keys(require.cache).some((path) => path.includes("/@aws-sdk/"));
    const before = loaded();
    await import("@aws-sdk/client-s3");
    console.log(before, loaded());`;
  const run = Bun.spawn([process.execPath, "-e", program], { cwd: join(import.meta.dir, "../.."), stdout: "pipe" });
  expect((await new Response(run.stdout).text()).trim()).toBe("false true");
});
