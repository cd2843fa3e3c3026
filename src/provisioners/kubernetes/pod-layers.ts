import type { V1Pod } from "@kubernetes/client-node";
import type { HttpExecutor } from "../../executor/client.ts";
import type { Layer, LayerRequest } from "../../executor/protocol.ts";
import type { Log } from "../../log.ts";

/** Where layers are that any Pod can have. Keys are 64 hexadecimal digits. */
export type LayerShelf = {
  open(key: string): Promise<ReadableStream<Uint8Array> | null>;
  keep(keys: readonly string[], archive: ReadableStream<Uint8Array>): Promise<void>;
};

export type PodLayersDeps = {
  shelf: LayerShelf;
  /** The package index of those who name none. */
  indexUrl: string;
  log: Log;
};

/** Layers of packages in Pods: taken from the shelf where another Pod has built the same set for the same image, else built. */
export class PodLayers {
  readonly #d: PodLayersDeps;

  constructor(deps: PodLayersDeps) {
    this.#d = deps;
  }

  /**
   * The layer in this Pod. `isNew`: no code of its session has ever run, as the control plane knows and no executor need say:
   * only then others are given what it built. Throws `dependency_failed`.
   */
  async ensure(executor: HttpExecutor, pod: V1Pod, asked: LayerRequest, isNew: boolean): Promise<Layer> {
    const request = { ...asked, indexUrl: asked.indexUrl ?? this.#d.indexUrl };
    const present = await executor.findLayer(request);
    if (present !== null) return present;
    // By the image's own digest: of a name there may be another image tomorrow.
    const imageId = pod.status?.containerStatuses?.[0]?.imageID ?? "";
    const keyOf = (exact: readonly string[]): string =>
      layerKey(request.requirements, exact, request.indexUrl, imageId);
    const wanted = keyOf(request.exact ?? []);
    const taken = imageId === "" ? null : await this.#take(executor, request, wanted);
    if (taken !== null) return taken;
    const layer = await executor.ensureLayer(request);
    const exact = layer.packages.map(({ name, version }) => `${name}==${version}`);
    if (isNew && imageId !== "") await this.#keep(executor, layer, [wanted, keyOf(exact)]);
    return layer;
  }

  async #take(executor: HttpExecutor, request: LayerRequest, key: string): Promise<Layer | null> {
    try {
      const archive = await this.#d.shelf.open(key);
      return archive === null ? null : await executor.putLayer(request, archive);
    } catch (error) {
      this.#d.log.warn("layer.not_taken", { key, error });
      return null;
    }
  }

  async #keep(executor: HttpExecutor, layer: Layer, keys: readonly string[]): Promise<void> {
    try {
      await this.#d.shelf.keep(keys, await executor.layerArchive(layer.name));
    } catch (error) {
      this.#d.log.warn("layer.not_kept", { keys, error });
    }
  }
}

/**
 * Always with what was asked for: a build runs code of those packages, which can put any others into the layer, and say so. It
 * must not reach anybody who did not ask for them.
 */
function layerKey(
  requirements: readonly string[],
  exact: readonly string[],
  indexUrl: string,
  imageId: string,
): string {
  const [asked, found] = [requirements, exact].map((lines) => [...new Set(lines)].toSorted());
  return new Bun.CryptoHasher("sha256").update(JSON.stringify([asked, found, indexUrl, imageId])).digest("hex");
}
