import { beforeEach, expect, test } from "bun:test";
import type { V1Pod } from "@kubernetes/client-node";
import type { HttpExecutor } from "../../../src/executor/client.ts";
import type { InstalledPackage, LayerRequest } from "../../../src/executor/protocol.ts";
import { createLog } from "../../../src/log.ts";
import { PodLayers } from "../../../src/provisioners/kubernetes/pod-layers.ts";

const POD = { status: { containerStatuses: [{ imageID: "image@sha256:1" }] } } as V1Pod;
const OTHER_IMAGE = { status: { containerStatuses: [{ imageID: "image@sha256:2" }] } } as V1Pod;

let shelved: Map<string, string>;
let layers: PodLayers;
beforeEach(() => {
  shelved = new Map();
  layers = new PodLayers({
    shelf: {
      async open(key) {
        const text = shelved.get(key);
        return text === undefined ? null : new Blob([text]).stream();
      },
      async keep(keys, archive) {
        const text = await new Response(archive).text();
        for (const key of keys) if (!shelved.has(key)) shelved.set(key, text);
      },
    },
    indexUrl: "http://index.invalid/simple",
    log: createLog({ level: "error", format: "json", write: () => {} }),
  });
});

/** An executor whose builds hold these bytes and, as it says, these packages; what it was given instead is in `given`. */
class FakeExecutor {
  given: string | null = null;
  readonly #bytes: string;
  readonly #packages: InstalledPackage[];

  constructor(bytes: string, packages: InstalledPackage[]) {
    this.#bytes = bytes;
    this.#packages = packages;
  }

  readonly findLayer = async () => null;
  readonly listSandboxes = async () => [];
  readonly layerArchive = async () => new Blob([this.#bytes]).stream();
  readonly ensureLayer = async () => ({ name: "built", path: "/built", packages: this.#packages });
  readonly putLayer = async (_: LayerRequest, archive: ReadableStream<Uint8Array>) => {
    this.given = await new Response(archive).text();
    return { name: "given", path: "/given", packages: this.#packages };
  };

  get asExecutor(): HttpExecutor {
    return this as unknown as HttpExecutor;
  }
}

const SIX = [{ name: "six", version: "1.16.0" }];
const request = (requirements: string[], exact?: string[]): LayerRequest => ({
  requirements,
  imageUrl: "image",
  indexUrl: null,
  timeoutMs: 1000,
  ...(exact === undefined ? {} : { exact }),
});

/** What a new session that asks for these packages gets: "built" by its own Pod, or the bytes of another's. */
async function got(asked: LayerRequest, pod = POD): Promise<string> {
  const executor = new FakeExecutor("its own", SIX);
  await layers.ensure(executor.asExecutor, pod, asked, true);
  return executor.given ?? "built";
}

test("what one Pod has built the next is given, also by its versions, and one of another image is not", async () => {
  const first = new FakeExecutor("six", SIX);
  await layers.ensure(first.asExecutor, POD, request(["six"]), true);
  expect(await got(request(["six"]), OTHER_IMAGE)).toBe("built");
  expect(await got(request(["six"]))).toBe("six");
  expect(await got(request(["six"], ["six==1.16.0"]))).toBe("six");
});

test("packages that say to be others are given to nobody who did not ask for them", async () => {
  // Its build removed every trace of itself, and left what passes for another package.
  const evil = new FakeExecutor("poisoned", SIX);
  await layers.ensure(evil.asExecutor, POD, request(["evil"]), true);
  expect(await got(request(["six==1.16.0"]))).toBe("built");
  expect(await got(request(["six"], ["six==1.16.0"]))).toBe("built");
});

test("what a Pod builds in which a session has run is shared with nobody, whatever its executor says", async () => {
  const hostile = new FakeExecutor("poisoned", SIX);
  await layers.ensure(hostile.asExecutor, POD, request(["six"]), false);
  expect(shelved.size).toBe(0);
});
