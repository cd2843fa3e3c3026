import { AppError } from "../errors.ts";
import type { Objects } from "../objects/objects.ts";

/** How long a layer is kept: after that it is built anew, from what the index has by then. */
const KEPT_MS = 7 * 24 * 3600 * 1000;
const MAX_BYTES = 1024 ** 3;
const NAME = /^layers\.[0-9a-f]{64}$/;
/** A layer has one version. */
const VERSION = 1;

/** Whether what is stored under this name is a layer: no workspace's name ends in so many digits. */
export function isLayerName(name: string): boolean {
  return NAME.test(name);
}

/** Layers in the object store, by keys of 64 hexadecimal digits, so that another Pod need not build what one has built. */
export class StoredLayers {
  readonly #objects: Objects;
  readonly #now: () => number;

  constructor(objects: Objects, now: () => number = Date.now) {
    this.#objects = objects;
    this.#now = now;
  }

  /** The bytes of a layer; null when there is none. */
  async open(key: string): Promise<ReadableStream<Uint8Array> | null> {
    const manifest = await this.#objects.getManifest(nameOf(key), VERSION);
    const sha256 = manifest?.entries[0]?.sha256;
    return sha256 === undefined ? null : ((await this.#objects.get(sha256))?.body ?? null);
  }

  /** Stores the bytes under each of the keys that has none. */
  async keep(keys: readonly string[], archive: ReadableStream<Uint8Array>): Promise<void> {
    const { sha256, size } = await this.#objects.put(archive, { limitBytes: MAX_BYTES });
    const entries = [{ path: "layer", mode: "0644", size, sha256 }];
    for (const key of new Set(keys))
      try {
        const manifest = { version: VERSION, created_at: new Date(this.#now()).toISOString(), entries };
        await this.#objects.putManifest(nameOf(key), manifest);
      } catch (error) {
        if (!(error instanceof AppError && error.code === "file_conflict")) throw error;
      }
  }

  /** Removes a layer that has been kept for long enough. */
  async removeOld(name: string): Promise<void> {
    const manifest = await this.#objects.getManifest(name, VERSION);
    if (manifest !== null && Date.parse(manifest.created_at) > this.#now() - KEPT_MS) return;
    await this.#objects.deleteManifests(name);
  }
}

function nameOf(key: string): string {
  return `layers.${key}`;
}
