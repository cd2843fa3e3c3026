import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { AppError } from "../../src/errors.ts";
import { collectGarbage } from "../../src/objects/garbage.ts";
import type { Manifest, ManifestEntry, Objects } from "../../src/objects/objects.ts";
import { latestVersion, storeVersion } from "../../src/objects/versions.ts";
import type { ObjectsSubject } from "./objects.ts";

const GRACE_MS = 400;

const entryOf = (text: string): ManifestEntry => ({
  path: `${text}.txt`,
  mode: "0644",
  size: Buffer.byteLength(text),
  sha256: createHash("sha256").update(text).digest("hex"),
});

/** What a collection of garbage keeps to on every object store. `open` gives one that is empty. */
export function garbageContract(name: string, open: () => Promise<ObjectsSubject>): void {
  describe(`${name}: garbage`, () => {
    let subject: ObjectsSubject;
    beforeAll(async () => {
      subject = await open();
    });
    afterAll(() => subject.close());

    const store = async (workspace: string, texts: readonly string[]): Promise<Manifest> => {
      const byPath = new Map(texts.map((text) => [entryOf(text).path, text]));
      const read = (entry: ManifestEntry) => Promise.resolve(new Blob([byPath.get(entry.path) ?? ""]).stream());
      const previous = await latestVersion(subject.objects, workspace);
      const entries = texts.map(entryOf);
      return storeVersion(subject.objects, workspace, previous, { entries }, read, { graceMs: GRACE_MS });
    };
    /** The store with other methods in the place of some. */
    const withMethods = (methods: Partial<Objects>): Objects =>
      new Proxy(subject.objects, {
        get(objects, name: keyof Objects) {
          return methods[name] ?? (objects[name] as (...values: unknown[]) => unknown).bind(objects);
        },
      });
    const isThere = async (text: string) => (await subject.objects.has(entryOf(text).sha256)) !== null;
    const collect = (graceMs = GRACE_MS) => collectGarbage(subject.objects, { graceMs, maxCandidates: 3 });

    test("what no manifest names goes after the time of grace, what one names stays", async () => {
      await store("kept", ["both", "kept"]);
      await store("gone", ["both", "gone", "gone too"]);
      await subject.objects.put(new Blob(["never named"]).stream());
      await subject.objects.deleteManifests("gone");
      expect(await collect(60_000)).toEqual({ deletedBlobs: 0, deletedBytes: 0 });
      await Bun.sleep(GRACE_MS);
      expect(await collect()).toEqual({ deletedBlobs: 3, deletedBytes: 23 });
      const texts = ["both", "kept", "gone", "gone too", "never named"];
      expect(await Promise.all(texts.map(isThere))).toEqual([true, true, false, false, false]);
    });

    test("versions count up, and a version's files are read once", async () => {
      const first = await store("counted", ["a", "b"]);
      const second = await store("counted", ["b", "c"]);
      expect([first.version, second.version]).toEqual([1, 2]);
      expect(await subject.objects.getManifest("counted", 2)).toEqual(second);
      const read = () => Promise.reject(new Error("read again"));
      const third = await storeVersion(subject.objects, "counted", second, { entries: ["b", "c"].map(entryOf) }, read);
      expect(third.version).toBe(3);
    });

    test("a file that changed while it was stored is refused", async () => {
      const changed = () => Promise.resolve(new Blob(["other bytes"]).stream());
      const storing = storeVersion(subject.objects, "changed", null, { entries: [entryOf("announced")] }, changed);
      expect(await storing.catch((error: unknown) => error)).toMatchObject({ code: "body_too_large" });
      expect(await subject.objects.versions("changed")).toEqual([]);
    });

    test("a file that changes while it is stored can be taken as it is, and one that is gone left out", async () => {
      const entries = ["grown", "gone", "same"].map(entryOf);
      const now = new Map([
        ["grown.txt", "GROWN"],
        ["same.txt", "same"],
      ]);
      const read = async ({ path }: ManifestEntry) => {
        const text = now.get(path);
        if (text === undefined) throw new AppError("file_not_found", "gone");
        return new Blob([text]).stream();
      };
      const links = [{ path: "link", target: "same.txt" }];
      const content = { entries, directories: [{ path: "d", mode: "0755" }], links };
      const options = { graceMs: GRACE_MS, takesChanges: true };
      const stored = await storeVersion(subject.objects, "moving", null, content, read, options);
      expect(stored.entries).toEqual([{ ...entryOf("GROWN"), path: "grown.txt" }, entryOf("same")]);
      expect(await subject.objects.getManifest("moving", 1)).toEqual(stored);
      expect([await isThere("GROWN"), await isThere("same")]).toEqual([true, true]);
      await subject.objects.deleteManifests("moving");
    });

    test("a hash gives the bytes to nobody who does not have them, and bytes that are had are not stored again", async () => {
      const secret = entryOf("secret of another tenant");
      await store("victim", ["secret of another tenant"]);
      const guess = () => Promise.resolve(new Blob(["a guess that is no shorter"]).stream());
      const strict = storeVersion(subject.objects, "thief", null, { entries: [secret] }, guess);
      expect(await strict.catch((error: unknown) => error)).toMatchObject({ code: "body_too_large" });
      const short = () => Promise.resolve(new Blob(["x"]).stream());
      const options = { graceMs: GRACE_MS, takesChanges: true };
      const stolen = await storeVersion(subject.objects, "thief", null, { entries: [secret] }, short, options);
      expect(stolen.entries).toEqual([{ ...entryOf("x"), path: secret.path }]);
      // A wrong size of what was had before is not believed either.
      const larger = { ...entryOf("x"), size: 1000 };
      const next = await storeVersion(subject.objects, "thief", stolen, { entries: [larger] }, short, options);
      expect(next.entries).toEqual([entryOf("x")]);
      let puts = 0;
      const counting = withMethods({ put: (...all) => (puts++, subject.objects.put(...all)) });
      const read = () => Promise.resolve(new Blob(["secret of another tenant"]).stream());
      await storeVersion(counting, "owner", null, { entries: [secret, { ...secret, path: "copy" }] }, read);
      expect(puts).toBe(0);
      for (const workspace of ["victim", "thief", "owner"]) await subject.objects.deleteManifests(workspace);
    });

    test("of two that follow the same version one is refused", async () => {
      const first = await store("twice", ["one"]);
      await store("twice", ["two"]);
      const late = storeVersion(subject.objects, "twice", first, { entries: [] }, () =>
        Promise.reject(new Error("no")),
      );
      expect(await late.catch((error: unknown) => error)).toMatchObject({ code: "file_conflict" });
    });

    test("a manifest that can't be read ends the collection before it deletes anything", async () => {
      await store("unread", ["unread"]);
      await subject.objects.put(new Blob(["unnamed"]).stream());
      await Bun.sleep(GRACE_MS);
      const broken = withMethods({ getManifest: () => Promise.reject(new Error("unreadable")) });
      const error = await collectGarbage(broken, { graceMs: GRACE_MS }).catch((caught: unknown) => caught);
      expect(error).toEqual(new Error("unreadable"));
      expect([await isThere("unread"), await isThere("unnamed")]).toEqual([true, true]);
    });

    test("a blob that is named again while a collection runs stays, wherever the collection is", async () => {
      await store("a-first", ["first"]);
      await subject.objects.put(new Blob(["again"]).stream());
      await Bun.sleep(GRACE_MS);
      let isNamed = false;
      const workspaces = async function* () {
        yield* subject.objects.workspaces();
        // All manifests have been listed, and what they do not name is about to go.
        if (!isNamed) await store("a-first", ["first", "again"]);
        isNamed = true;
      };
      await collectGarbage(withMethods({ workspaces }), { graceMs: GRACE_MS });
      expect(isNamed).toBe(true);
      expect([await isThere("first"), await isThere("again")]).toEqual([true, true]);
    });

    test("a version that gives way to the next while a collection reads it keeps what both name", async () => {
      await store("replaced", ["both versions"]);
      await Bun.sleep(GRACE_MS);
      let isReplaced = false;
      const getManifest = async (workspace: string, version: number) => {
        if (workspace === "replaced" && !isReplaced) {
          isReplaced = true;
          await store("replaced", ["both versions", "more"]);
          await subject.objects.deleteManifests("replaced", 2);
        }
        return subject.objects.getManifest(workspace, version);
      };
      await collectGarbage(withMethods({ getManifest }), { graceMs: GRACE_MS });
      expect(isReplaced).toBe(true);
      expect([await isThere("both versions"), await isThere("more")]).toEqual([true, true]);
    });

    test("many writers and collections at once: whatever a version names can be read", async () => {
      const end = performance.now() + 2000;
      const missing: string[] = [];
      const check = async (manifest: Manifest) => {
        for (const { path, sha256 } of manifest.entries)
          if ((await subject.objects.has(sha256)) === null) missing.push(`${path} after ${manifest.version}`);
      };
      // Few different contents, so that what one workspace lets go another is about to name.
      const writer = async (workspace: string, seed: number) => {
        let random = seed;
        const pick = (below: number) => (random = (random * 1_103_515_245 + 12_345) % 2 ** 31) % below;
        let latest: Manifest | null = null;
        while (performance.now() < end) {
          const manifest = await store(
            workspace,
            Array.from({ length: 3 }, () => `content ${pick(30)}`),
          );
          if (latest !== null) await check(latest);
          await subject.objects.deleteManifests(workspace, manifest.version);
          await Bun.sleep(pick(GRACE_MS));
          await check(manifest);
          latest = manifest;
          if (pick(3) > 0) continue;
          await subject.objects.deleteManifests(workspace);
          latest = null;
          await Bun.sleep(pick(2 * GRACE_MS));
        }
      };
      const collector = async () => {
        while (performance.now() < end) await collect();
      };
      const names = Array.from({ length: 6 }, (_, i) => `writer-${i}`);
      await Promise.all([...names.map((name, i) => writer(name, i + 1)), collector(), collector()]);
      expect(missing).toEqual([]);
      for (const name of names) await subject.objects.deleteManifests(name);
      await Bun.sleep(GRACE_MS);
      await collect();
      const contents = Array.from({ length: 30 }, (_, i) => `content ${i}`);
      expect((await Promise.all(contents.map(isThere))).filter(Boolean)).toEqual([]);
    }, 20_000);
  });
}
