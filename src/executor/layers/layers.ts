import { existsSync, mkdirSync, readdirSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import { AppError } from "../../errors.ts";
import { rawJson } from "../../json-text.ts";
import type { Log } from "../../log.ts";
import { ONCE } from "../ids.ts";
import { removeTree } from "../jail/remove-tree.ts";
import type { ExecutionRequest, InstalledPackage, Layer, LayerRequest, Outcome, SandboxSpec } from "../protocol.ts";
import type { Sandboxes } from "../sandboxes.ts";
import { INSTALL_PROGRAM, installEnvironment } from "./install-program.ts";
import { packagesOf } from "./layer-answer.ts";
import { layerArchive, restoreLayer } from "./layer-archive.ts";
import { LayerStore } from "./layer-store.ts";
import { indexRules } from "./package-index.ts";

export type LayersDeps = {
  dataDir: string;
  sandboxes: Sandboxes;
  log: Log;
  /** Root of the file system that programs of an image see; null: this host's own. Throws `image_unknown`. */
  rootfsOf(imageUrl: string): string | null;
  /** Index of requests that name none. */
  indexUrl: string;
  /** Whether an index may be at any address. */
  trusts(indexUrl: string): boolean;
  /** Bytes of all layers together. */
  limitBytes: number;
  /** Bytes that a build may take. */
  buildBytes: number;
  /** Where sandboxes see the layers. */
  insideDir: string;
};

const MAX_BUILDS = 2;
const MAX_WAITING = 64;
const GIBIBYTE = 1024 ** 3;
const LIMITS = { cpuCores: 2, memoryBytes: 2 * GIBIBYTE, maxProcesses: 256 };
/** A name, extras and a version, as the API takes them: nothing that an installer reads as an option, path or URL. */
const REQUIREMENT = /^[A-Za-z0-9][A-Za-z0-9._-]*(\[[A-Za-z0-9._, -]+\])?[A-Za-z0-9.*+!_=~<>, -]*$/;

/** Sets of Python packages, each built once in a sandbox of its own and then shared read-only. */
export class Layers {
  readonly #d: LayersDeps;
  readonly #store: LayerStore;
  readonly #building = new Map<string, Promise<Layer>>();
  readonly #turns: (() => void)[] = [];
  #running = 0;

  constructor(deps: LayersDeps) {
    this.#d = deps;
    this.#store = new LayerStore(deps.dataDir, deps.limitBytes, deps.insideDir);
  }

  /** For when no sandbox is left. */
  close(): void {
    this.#store.close();
  }

  /** Finds the layer or builds it; callers that ask for the same set meanwhile share the build. Throws `dependency_failed`. */
  ensure(request: LayerRequest): Promise<Layer> {
    const { digest, build } = this.#planned(request);
    const present = this.#store.find(digest);
    if (present !== null) return Promise.resolve(present);
    const building =
      this.#building.get(digest) ??
      this.#inTurn(() => this.#build(digest, build)).finally(() => this.#building.delete(digest));
    this.#building.set(digest, building);
    return building;
  }

  /** The layer, unless it would have to be built. */
  find(request: LayerRequest): Layer | null {
    return this.#store.find(this.#planned(request).digest);
  }

  /** The bytes of a layer. `not_found` when there is none of that name, `body_too_large` when there are too many. */
  async archive(name: string): Promise<ReadableStream<Uint8Array>> {
    const layer = this.#store.named(name);
    if (layer === null) throw new AppError("not_found", "there is no such layer");
    return layerArchive(join(this.#d.dataDir, "layers", name), layer.packages);
  }

  /** Has what an archive holds be the layer that was asked for, unless that is there already. */
  async adopt(request: LayerRequest, archive: ReadableStream<Uint8Array>): Promise<Layer> {
    const { digest } = this.#planned(request);
    const aside = join(this.#d.dataDir, "workspaces", `${ONCE}${crypto.randomUUID()}`);
    mkdirSync(aside, { recursive: true });
    try {
      const packages = await restoreLayer(aside, archive, this.#d.buildBytes);
      return this.#store.find(digest) ?? (await this.#store.add(digest, aside, packages, this.#d.buildBytes));
    } finally {
      await removeTree(aside);
    }
  }

  #planned(request: LayerRequest): { digest: string; build: LayerRequest & { indexUrl: string } } {
    const requirements = [...new Set(request.requirements)].toSorted();
    const exact = request.exact ?? [];
    const bad = [...requirements, ...exact].find((one) => typeof one !== "string" || !REQUIREMENT.test(one));
    if (bad !== undefined || requirements.length === 0)
      throw new AppError("bad_request", `${JSON.stringify(bad)} is not a package and version`);
    const indexUrl = request.indexUrl ?? this.#d.indexUrl;
    const python = pythonOf(this.#d.rootfsOf(request.imageUrl));
    const digest = new Bun.CryptoHasher("sha256")
      .update(JSON.stringify([requirements, indexUrl, request.imageUrl, python]))
      .digest("hex");
    return { digest, build: { ...request, requirements: exact.length > 0 ? exact : requirements, indexUrl } };
  }

  async #build(digest: string, request: LayerRequest & { indexUrl: string }): Promise<Layer> {
    const { indexUrl, requirements, timeoutMs } = request;
    const network = indexRules(indexUrl, this.#d.trusts(indexUrl));
    const startedMs = performance.now();
    const spec: SandboxSpec = {
      imageUrl: request.imageUrl,
      runtimeType: "python",
      limits: { ...LIMITS, diskBytes: this.#d.buildBytes },
      env: {},
      maxRunning: 1,
      network,
    };
    const url = new URL(indexUrl);
    const execution: Omit<ExecutionRequest, "sandboxId"> = {
      language: "python",
      code: INSTALL_PROGRAM,
      event: rawJson({ requirements, insecure_host: url.protocol === "http:" ? url.host : null }),
      env: installEnvironment(indexUrl),
      stdin: "",
      timeoutMs,
      createdAt: new Date().toISOString(),
    };
    const layer = await this.#d.sandboxes.once(spec, execution, async (journal, workspaceDir) =>
      this.#store.add(digest, join(workspaceDir, "layer"), installedBy(journal, timeoutMs), this.#d.buildBytes),
    );
    const ms = Math.round(performance.now() - startedMs);
    this.#d.log.info("layer.built", { layer: digest, packages: layer.packages.length, ms });
    await this.#store.trim(this.#d.sandboxes.layersInUse().add(layer.name));
    return layer;
  }

  /** Runs `build` when fewer than MAX_BUILDS run. */
  async #inTurn<T>(build: () => Promise<T>): Promise<T> {
    if (this.#turns.length >= MAX_WAITING)
      throw new AppError("queue_full", "too many installations wait already", { retryAfterS: 5 });
    if (this.#running >= MAX_BUILDS) await new Promise<void>((resolve) => this.#turns.push(resolve));
    else this.#running += 1;
    try {
      return await build();
    } finally {
      const next = this.#turns.shift();
      if (next === undefined) this.#running -= 1;
      else next();
    }
  }
}

/** What the build's program returned. Throws `dependency_failed` when it did not succeed. */
function installedBy(journal: string, timeoutMs: number): InstalledPackage[] {
  const payload = (type: string): unknown => {
    const line = journal.split("\n").find((one) => one.split(" ", 2)[1] === type);
    return line === undefined ? null : JSON.parse(line.slice(line.indexOf(type) + type.length + 1));
  };
  const end = payload("end") as Outcome | null;
  if (end?.status === "timeout") throw failed(`the installation took longer than ${timeoutMs / 1000} s`);
  if (end?.status !== "completed") throw failed(end?.error_message ?? "the installation was ended");
  const result = payload("result") as { return_value?: { packages?: unknown; failure?: unknown } } | null;
  const { packages, failure } = result?.return_value ?? {};
  if (!Array.isArray(packages)) throw failed(typeof failure === "string" ? failure : "the installer said nothing");
  return packagesOf(packages);
}

function failed(message: string): AppError {
  return new AppError("dependency_failed", message);
}

/** Tells versions of Python apart: a link such as `python3.11`, or what is installed beside it. */
function pythonOf(rootfs: string | null): string {
  for (const bin of ["usr/bin", "usr/local/bin"]) {
    const dir = join(rootfs ?? "/", bin);
    if (!existsSync(dir)) continue;
    try {
      return readlinkSync(join(dir, "python3"));
    } catch {
      const found = readdirSync(dir).filter((name) => /^python3\.\d+$/.test(name));
      if (found.length > 0) return found.join(",");
    }
  }
  return "python3";
}
