import { chmodSync, rmSync } from "node:fs";
import { join } from "node:path";
import { AppError } from "../errors.ts";
import type { Log } from "../log.ts";
import type { Jail } from "./jail/jail.ts";
import type { OutputLimits } from "./journal.ts";
import { Journals } from "./journals.ts";
import type { Check, ExecutorHealth, JournalName } from "./protocol.ts";
import { Layers, type LayersDeps } from "./layers/layers.ts";
import { resolveImage } from "./images.ts";
import { JAIL_PATHS } from "./languages/launch.ts";
import { hostIndexUrl } from "./layers/package-index.ts";
import { recoverJournals } from "./recovery.ts";
import { Sandboxes } from "./sandboxes.ts";
import { ExecutorServer, type Listen } from "./server.ts";
import { TunnelHub } from "./tunnel/hub.ts";

/** How long readers get for the last entries of what was ended. */
const DRAIN_MS = 1000;
const DRAIN_CHECK_MS = 5;
/** Disk that the build of a layer may take. */
const BUILD_BYTES = 4 * 1024 ** 3;

export type ExecutorOptions = OutputLimits & {
  dataDir: string;
  /** Directory of the journals. */
  journalsDir: string;
  listen: Listen;
  /** Required on every request when given. */
  token: string | null;
  jail: Jail;
  /** Executions of a sandbox that may wait for their turn. */
  maxWaiting: number;
  /** Journals that were last written before this (epoch) have their end already. */
  recoverSinceMs: number;
  /** Package index of those who name none; null: the host's own. */
  packageIndexUrl: string | null;
  /** Bytes of all dependency layers together. */
  layersLimitBytes: number;
  /** The sandboxes' connections leave through the control plane, which opens tunnels to here. */
  isTunnelled: boolean;
  version: string;
  log: Log;
};

/** An executor that serves. */
export type StartedExecutor = {
  /** The bound port; 0 for a socket. */
  port: number;
  /** Resolves when a peer asked for its end; its sandboxes have ended then. */
  told: Promise<void>;
  /** Milliseconds since it was last of use: no request was answered and no execution waited or ran. */
  idleMs(): number;
  /** Ends every sandbox, then the listener. Idempotent. */
  close(): Promise<void>;
};

/**
 * Starts an executor on a data directory that this process has locked: cleans up after the one before, ends its journals
 * and serves. Throws what the jail or the bind threw.
 */
export async function startExecutor(options: ExecutorOptions): Promise<StartedExecutor> {
  const { log, jail } = options;
  const startedAt = new Date().toISOString();
  const told = Promise.withResolvers<void>();
  await jail.cleanUpLeftovers();
  const journals = new Journals(options.journalsDir, options);
  const tunnels = options.isTunnelled ? new TunnelHub(log) : null;
  const sandboxes = new Sandboxes({ ...options, journals, tunnels });
  const health = (): Promise<ExecutorHealth> => {
    if (sandboxes.isClosed) throw new AppError("draining", "the executor is ending");
    const counts = {
      sandboxes: sandboxes.count,
      runningExecutions: sandboxes.liveExecutions,
      pools: sandboxes.pools.sizes(),
    };
    return Promise.resolve({ version: options.version, pid: process.pid, startedAt, ...counts });
  };
  await sandboxes.cleanUpLeftovers();
  const layers = new Layers({ dataDir: options.dataDir, sandboxes, log, ...layerTerms(options) });
  const surplusJournals = (): Promise<JournalName[]> => journals.surplus((id) => sandboxes.isLive(id));
  const isolation = (): Promise<Check[]> => jail.checks();
  const parts = { sandboxes, layers, tunnels, health, isolation, surplusJournals };
  const server = new ExecutorServer({ ...options, ...parts, shutdown: told.resolve });
  const port = bind(server, options.listen);
  const failed = (path: string, error: unknown): void => log.error("executor.recovery_failed", { path, error });
  const found = (id: string, bytes: number): void => journals.found(id, bytes);
  void recoverJournals(journals.paths(), options.recoverSinceMs, (id) => sandboxes.isLive(id), failed, found).then(
    (count) => log.info("executor.recovered", { journals: count }),
    (error: unknown) => failed(options.journalsDir, error),
  );
  let closing: Promise<void> | null = null;
  const close = async (): Promise<void> => {
    await sandboxes.close();
    const end = performance.now() + DRAIN_MS;
    while (server.pending > 0 && performance.now() < end) await Bun.sleep(DRAIN_CHECK_MS);
    await server.close();
    jail.close();
    layers.close();
    if ("unix" in options.listen) rmSync(options.listen.unix, { force: true });
  };
  return {
    port,
    told: told.promise,
    idleMs: () => (sandboxes.liveExecutions > 0 || server.pending > 0 ? 0 : performance.now() - server.lastRequestMs),
    close: () => (closing ??= close()),
  };
}

type LayerTerms = Pick<LayersDeps, "rootfsOf" | "indexUrl" | "trusts" | "limitBytes" | "buildBytes" | "insideDir">;

/** In a Pod the control plane judges the index, and layers that nobody uses leave their room to the one session. */
function layerTerms({ dataDir, isTunnelled, packageIndexUrl, layersLimitBytes }: ExecutorOptions): LayerTerms {
  const indexUrl = packageIndexUrl ?? hostIndexUrl(process.env);
  if (isTunnelled) {
    const common = { rootfsOf: () => null, trusts: () => true, insideDir: join(dataDir, "layers") };
    return { ...common, indexUrl, limitBytes: 0, buildBytes: layersLimitBytes };
  }
  return {
    rootfsOf: (imageUrl) => resolveImage(dataDir, imageUrl),
    indexUrl,
    trusts: (url) => url === indexUrl,
    limitBytes: layersLimitBytes,
    buildBytes: BUILD_BYTES,
    insideDir: JAIL_PATHS.layersDir,
  };
}

function bind(server: ExecutorServer, listen: Listen): number {
  if (!("unix" in listen)) return server.listen(listen);
  rmSync(listen.unix, { force: true });
  const port = server.listen(listen);
  chmodSync(listen.unix, 0o600);
  return port;
}
