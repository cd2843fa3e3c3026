import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { AppError } from "../../src/errors.ts";
import type { BlobBody, Manifest, Objects } from "../../src/objects/objects.ts";

export type ObjectsSubject = { objects: Objects; close(): Promise<void> };

const sha256 = (bytes: Uint8Array | string): string => createHash("sha256").update(bytes).digest("hex");
const streamOf = (...chunks: (string | Uint8Array)[]): ReadableStream<Uint8Array> =>
  new ReadableStream({
    start(controller) {
      for (const one of chunks) controller.enqueue(typeof one === "string" ? Buffer.from(one) : one);
      controller.close();
    },
  });

async function textOf(found: BlobBody | null): Promise<string> {
  return new Response(found?.body).text();
}

async function codeOf(work: Promise<unknown>): Promise<string> {
  try {
    await work;
    return "none";
  } catch (error) {
    return error instanceof AppError ? error.code : `not an AppError: ${String(error)}`;
  }
}

async function hashesIn(objects: Objects): Promise<string[]> {
  const hashes: string[] = [];
  for await (const blob of objects.blobs()) hashes.push(blob.sha256);
  return hashes.toSorted();
}

/** What every object store keeps to. `open` gives one that is empty. */
export function objectsContract(name: string, open: () => Promise<ObjectsSubject>): void {
  describe(`${name}: blobs`, () => {
    let subject: ObjectsSubject;
    let objects: Objects;
    beforeAll(async () => {
      subject = await open();
      objects = subject.objects;
    });
    afterAll(() => subject.close());

    test("bytes come back under their hash", async () => {
      const stored = await objects.put(streamOf("hel", "", "lo"));
      expect(stored).toEqual({ sha256: sha256("hello"), size: 5 });
      expect(await objects.has(stored.sha256)).toBe(5);
      const found = await objects.get(stored.sha256);
      expect(found?.size).toBe(5);
      expect(await textOf(found)).toBe("hello");
    });

    test("an empty blob is a blob", async () => {
      const { sha256: hash } = await objects.put(streamOf());
      expect(hash).toBe(sha256(""));
      expect(await textOf(await objects.get(hash))).toBe("");
    });

    test("binary bytes of many chunks come back as they were", async () => {
      const chunks = Array.from({ length: 40 }, (_, i) =>
        new Uint8Array(100_003).map((__, j) => (i * 31 + j * 7) & 255),
      );
      const whole = Buffer.concat(chunks);
      const stored = await objects.put(streamOf(...chunks), { sha256: sha256(whole) });
      const found = await objects.get(stored.sha256);
      expect(Buffer.from(await new Response(found?.body).arrayBuffer()).equals(whole)).toBe(true);
    });

    test("a range gives its bytes and the whole size", async () => {
      const { sha256: hash } = await objects.put(streamOf("0123456789"));
      const found = await objects.get(hash, { start: 2, end: 5 });
      expect(found?.size).toBe(10);
      expect(await textOf(found)).toBe("234");
      expect(await textOf(await objects.get(hash, { start: 9, end: 10 }))).toBe("9");
      expect(await codeOf(objects.get(hash, { start: 5, end: 11 }))).toBe("range_not_satisfiable");
      expect(await codeOf(objects.get(hash, { start: 6, end: 5 }))).toBe("range_not_satisfiable");
    });

    test("what is not there is null, and a name that is no hash is refused", async () => {
      expect(await objects.get(sha256("nothing"))).toBeNull();
      expect(await objects.has(sha256("nothing"))).toBeNull();
      expect(await objects.delete(sha256("nothing"))).toBe(false);
      for (const bad of ["", "../../etc/passwd", "A".repeat(64), `${"a".repeat(63)}/`])
        expect(await codeOf(objects.get(bad))).toBe("bad_request");
    });

    test("other bytes than announced, too many, or a source that breaks leave nothing", async () => {
      const before = await hashesIn(objects);
      expect(await codeOf(objects.put(streamOf("other"), { sha256: sha256("announced") }))).toBe("bad_request");
      expect(await codeOf(objects.put(streamOf("1234", "5"), { limitBytes: 4 }))).toBe("body_too_large");
      const broken = new ReadableStream<Uint8Array>({
        start(controller) {
          controller.enqueue(Buffer.from("half"));
        },
        pull(controller) {
          controller.error(new AppError("bad_request", "the client left"));
        },
      });
      expect(await codeOf(objects.put(broken))).toBe("bad_request");
      expect(await hashesIn(objects)).toEqual(before);
    });

    test("exactly the limit is taken", async () => {
      expect((await objects.put(streamOf("12", "34"), { limitBytes: 4 })).size).toBe(4);
    });

    test("a source is told when its bytes are refused", async () => {
      const cancelled = Promise.withResolvers<void>();
      const endless = new ReadableStream<Uint8Array>({
        pull: (controller) => controller.enqueue(new Uint8Array(1000)),
        cancel: () => cancelled.resolve(),
      });
      expect(await codeOf(objects.put(endless, { limitBytes: 10_000 }))).toBe("body_too_large");
      await cancelled.promise;
    });

    test("the same bytes from many writers at once are one blob", async () => {
      const text = "x".repeat(300_000);
      const stored = await Promise.all(
        Array.from({ length: 8 }, () => objects.put(streamOf(text.slice(0, 99), text.slice(99)))),
      );
      expect(new Set(stored.map((one) => one.sha256))).toEqual(new Set([sha256(text)]));
      expect((await hashesIn(objects)).filter((hash) => hash === sha256(text))).toHaveLength(1);
      expect(await textOf(await objects.get(sha256(text)))).toBe(text);
    });

    test("a listed blob has its size and the time when it was last stored", async () => {
      const from = Date.now() - 2000;
      const { sha256: hash } = await objects.put(streamOf("listed"));
      const found = [];
      for await (const blob of objects.blobs()) if (blob.sha256 === hash) found.push(blob);
      expect(found).toHaveLength(1);
      expect(found[0]?.size).toBe(6);
      expect(found[0]?.storedMs).toBeGreaterThan(from);
      expect(found[0]?.storedMs).toBeLessThan(Date.now() + 2000);
    });

    test("a deleted blob is gone, and can be stored again", async () => {
      const { sha256: hash } = await objects.put(streamOf("short-lived"));
      expect(await objects.delete(hash)).toBe(true);
      expect(await objects.get(hash)).toBeNull();
      expect(await objects.delete(hash)).toBe(false);
      await objects.put(streamOf("short-lived"));
      expect(await textOf(await objects.get(hash))).toBe("short-lived");
    });

    test("a renewed blob counts as stored now, unless it was stored lately", async () => {
      const { sha256: hash } = await objects.put(streamOf("renewed"));
      const storedMs = async () => {
        for await (const blob of objects.blobs()) if (blob.sha256 === hash) return blob.storedMs;
        return null;
      };
      const first = (await storedMs()) ?? 0;
      await Bun.sleep(20);
      expect(await objects.renew(hash, first - 1000)).toBe(true);
      expect(await storedMs()).toBe(first);
      expect(await objects.renew(hash, first + 1)).toBe(true);
      expect(await storedMs()).toBeGreaterThan(first);
      expect(await textOf(await objects.get(hash))).toBe("renewed");
      expect(await objects.renew(sha256("nothing"), 0)).toBe(false);
    });

    test("a blob is deleted for its time only if nobody has stored it since", async () => {
      const { sha256: hash } = await objects.put(streamOf("old"));
      expect(await objects.delete(hash, Date.now() - 60_000)).toBe(false);
      await Bun.sleep(20);
      const old = Date.now();
      await Bun.sleep(20);
      await objects.put(streamOf("old"));
      expect(await objects.delete(hash, old)).toBe(false);
      expect(await textOf(await objects.get(hash))).toBe("old");
      expect(await objects.delete(hash, Date.now() + 60_000)).toBe(true);
      expect(await objects.has(hash)).toBeNull();
    });

    test("of a deletion for its time and a renewal at once, the renewal wins or says that the blob is gone", async () => {
      for (let i = 0; i < 15; i++) {
        const { sha256: hash } = await objects.put(streamOf(`raced ${i}`));
        await Bun.sleep(20);
        const now = Date.now();
        const work = [() => objects.delete(hash, now), () => objects.renew(hash, now)];
        if (i % 2 === 1) work.reverse();
        const results = await Promise.all(work.map((one) => one()));
        const isRenewed = results[i % 2 === 1 ? 0 : 1];
        expect((await objects.has(hash)) !== null).toBe(isRenewed === true);
      }
    });

    test("removing what is unfinished leaves what is whole and what is being written", async () => {
      const { sha256: hash } = await objects.put(streamOf("whole"));
      const slow = Promise.withResolvers<void>();
      const begun = Promise.withResolvers<void>();
      const source = new ReadableStream<Uint8Array>({
        async pull(controller) {
          begun.resolve();
          await slow.promise;
          controller.enqueue(Buffer.from("slow"));
          controller.close();
        },
      });
      const storing = objects.put(source);
      await begun.promise;
      await objects.removeUnfinished(Date.now() - 60_000);
      slow.resolve();
      expect((await storing).sha256).toBe(sha256("slow"));
      expect(await textOf(await objects.get(hash))).toBe("whole");
    });

    test("a reader may leave early", async () => {
      const { sha256: hash } = await objects.put(streamOf(new Uint8Array(3_000_000)));
      const found = await objects.get(hash);
      const reader = found?.body.getReader();
      expect((await reader?.read())?.value?.byteLength).toBeGreaterThan(0);
      await reader?.cancel();
      expect(await objects.delete(hash)).toBe(true);
    });
  });

  describe(`${name}: manifests`, () => {
    let subject: ObjectsSubject;
    let objects: Objects;
    beforeAll(async () => {
      subject = await open();
      objects = subject.objects;
    });
    afterAll(() => subject.close());

    const manifest = (version: number): Manifest => ({
      version,
      created_at: "2026-01-31T12:00:00.000Z",
      entries: [{ path: "a/ü \n.txt", mode: "0644", size: 5, sha256: sha256("hello") }],
    });

    test("versions come back as they were put, in order of their numbers", async () => {
      for (const version of [2, 10, 1]) await objects.putManifest("sess_1", manifest(version));
      expect(await objects.versions("sess_1")).toEqual([1, 2, 10]);
      expect(await objects.getManifest("sess_1", 10)).toEqual(manifest(10));
      expect(await objects.getManifest("sess_1", 3)).toBeNull();
    });

    test("a version never changes, also with two writers at once", async () => {
      const other = { ...manifest(1), entries: [] };
      expect(await codeOf(objects.putManifest("sess_1", other))).toBe("file_conflict");
      expect(await objects.getManifest("sess_1", 1)).toEqual(manifest(1));
      const codes = await Promise.all([1, 2, 3, 4].map(() => codeOf(objects.putManifest("sess_race", manifest(1)))));
      expect(codes.toSorted()).toEqual(["file_conflict", "file_conflict", "file_conflict", "none"]);
    });

    test("a version that goes while others write it is a conflict to them, and nothing else", async () => {
      for (let round = 0; round < 50; round++) {
        const writers = [1, 2, 3, 4].map(() => codeOf(objects.putManifest("sess_gone", manifest(1))));
        const removed = writers[0]?.then(() => objects.deleteManifests("sess_gone", 2));
        for (const code of await Promise.all(writers)) expect(["none", "file_conflict"]).toContain(code);
        await removed;
      }
    });

    test("one workspace's versions are not another's, whatever the names", async () => {
      await objects.putManifest("sess_10", manifest(1));
      await objects.putManifest("other", manifest(1));
      await objects.deleteManifests("sess_1");
      await objects.deleteManifests("sess_1");
      expect(await objects.versions("sess_1")).toEqual([]);
      expect(await objects.versions("sess_10")).toEqual([1]);
      expect(await objects.versions("never")).toEqual([]);
    });

    test("older versions go, and every workspace that has one is named", async () => {
      for (const version of [1, 2, 9, 10]) await objects.putManifest("sess_old", manifest(version));
      await objects.deleteManifests("sess_old", 9);
      expect(await objects.versions("sess_old")).toEqual([9, 10]);
      const names: string[] = [];
      for await (const workspace of objects.workspaces()) names.push(workspace);
      expect(names).toEqual(expect.arrayContaining(["sess_10", "sess_old", "other"]));
      expect(names).not.toContain("sess_1");
    });

    test("a name that would lead elsewhere is refused", async () => {
      for (const bad of ["", "..", "a/b", "../other", ".hidden"]) {
        expect(await codeOf(objects.putManifest(bad, manifest(1)))).toBe("bad_request");
        expect(await codeOf(objects.deleteManifests(bad))).toBe("bad_request");
      }
      expect(await objects.versions("other")).toEqual([1]);
    });
  });
}
