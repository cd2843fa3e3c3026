import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { openS3Objects } from "../../src/objects/s3.ts";
import { Minio, minioMissing } from "../services.ts";
import { Client } from "./client.ts";
import { startServer, type Server } from "./server.ts";

const BUCKET = "object-urls";

describe.skipIf(minioMissing !== null)(
  `files by URLs of the object store${minioMissing === null ? "" : ` (${minioMissing})`}`,
  () => {
    let minio: Minio;
    let server: Server;
    let client: Client;
    const env = () => ({
      S3_ENDPOINT_URL: minio.url,
      S3_PUBLIC_ENDPOINT_URL: minio.url.replace("127.0.0.1", "localhost"),
      S3_ACCESS_KEY_ID: Minio.accessKeyId,
      S3_SECRET_ACCESS_KEY: Minio.secretAccessKey,
      S3_BUCKET: BUCKET,
      OBJECT_GRACE_SECONDS: "2",
    });

    beforeAll(async () => {
      minio = await Minio.start();
      server = await startServer({ env: env() });
      client = new Client(server.url);
    }, 30_000);
    afterAll(async () => {
      await server.stop();
      await minio.stop();
    });

    test("of a session that lives and of one that has ended, to anybody, as the file of its name", async () => {
      const session = await client.session();
      const path = `/sessions/${session}/files/${encodeURIComponent("a b ü.csv")}`;
      await client.raw("PUT", path, "city,total\n");
      const presigned = async (): Promise<void> => {
        const { status, body, headers } = await client.get(`${path}?presign=true`);
        expect([status, body["session_id"], body["file_path"], body["size"]]).toEqual([200, session, "a b ü.csv", 11]);
        expect(headers.get("cache-control")).toBe("no-store");
        const leftMs = Date.parse(body["expires_at"] as string) - Date.now();
        expect(leftMs > 0 && leftMs <= 1000).toBe(true);
        const url = body["presigned_url"] as string;
        expect(url).toStartWith("http://localhost:");
        const answer = await fetch(url);
        expect([answer.status, await answer.text()]).toEqual([200, "city,total\n"]);
        expect(answer.headers.get("content-type")).toBe("application/octet-stream");
        expect(answer.headers.get("content-disposition")).toContain("filename*=UTF-8''a%20b%20%C3%BC.csv");
      };
      await presigned();
      await client.post(`/sessions/${session}/terminate`);
      await presigned();
    });

    test("what there is no URL for is refused as without one", async () => {
      const session = await client.session();
      const files = `/sessions/${session}/files`;
      await client.post(`${files}/mkdir`, { path: "folder" });
      const codes = [];
      for (const path of ["none", "folder", "..%2Fx", "%2Fetc%2Fpasswd"])
        codes.push((await client.get(`${files}/${path}?presign=true`)).body["code"]);
      expect(codes).toEqual(["file_not_found", "file_conflict", "invalid_path", "invalid_path"]);
      expect((await client.get("/sessions/nobody/files/f?presign=true")).body["code"]).toBe("session_not_found");
    });

    test("what was stored for a URL alone is collected", async () => {
      const objects = await openS3Objects({
        endpointUrl: minio.url,
        publicEndpointUrl: minio.url,
        accessKeyId: Minio.accessKeyId,
        secretAccessKey: Minio.secretAccessKey,
        region: "us-east-1",
        bucket: BUCKET,
      });
      const session = await client.session();
      await client.raw("PUT", `/sessions/${session}/files/f`, "for a URL alone");
      await client.get(`/sessions/${session}/files/f?presign=true`);
      const sha256 = new Bun.CryptoHasher("sha256").update("for a URL alone").digest("hex");
      expect(await objects.has(sha256)).toBe(15);
      await Bun.sleep(2100);
      // It collects when it starts.
      const second = await startServer({ env: env() });
      const end = performance.now() + 10_000;
      while ((await objects.has(sha256)) !== null && performance.now() < end) await Bun.sleep(50);
      expect(await objects.has(sha256)).toBeNull();
      await second.stop();
    }, 30_000);
  },
);

test("a directory as the object store gives no URLs, and says so", async () => {
  const server = await startServer();
  const client = new Client(server.url);
  const session = await client.session();
  await client.raw("PUT", `/sessions/${session}/files/f`, "x");
  const { status, body } = await client.get(`/sessions/${session}/files/f?presign=true`);
  expect([status, body["code"]]).toEqual([501, "not_implemented"]);
  expect(body["message"]).toContain("no presigned URLs");
  await server.stop();
}, 30_000);
