import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import type { V1Pod } from "@kubernetes/client-node";
import { createLog } from "../../../src/log.ts";
import { KubernetesClient } from "../../../src/provisioners/kubernetes/client.ts";
import { PodWatch } from "../../../src/provisioners/kubernetes/pod-watch.ts";

/** What a real API server can't be made to do on demand: watches cut at a chosen point, and points in time forgotten. */
class ScriptedServer {
  readonly #server = Bun.serve({ port: 0, hostname: "127.0.0.1", idleTimeout: 0, fetch: (one) => this.#answer(one) });
  readonly lists: string[] = [];
  /** Resource versions from which watches were opened. */
  readonly watches: string[] = [];
  pods: V1Pod[] = [];
  version = 1;
  expired = false;
  #watchers: ReadableStreamDefaultController<Uint8Array>[] = [];
  #opened = Promise.withResolvers<void>();

  get url(): string {
    return `http://127.0.0.1:${this.#server.port}`;
  }

  /** Resolves once a watch is open. */
  async watched(): Promise<void> {
    await this.#opened.promise;
  }

  event(type: string, object: object): void {
    const line = Buffer.from(`${JSON.stringify({ type, object })}\n`);
    for (const watcher of this.#watchers) watcher.enqueue(line);
  }

  change(type: "ADDED" | "MODIFIED" | "DELETED", pod: V1Pod): void {
    this.version += 1;
    pod.metadata = { name: pod.metadata?.name ?? "", resourceVersion: String(this.version) };
    this.event(type, pod);
  }

  /** Ends every open watch, in the middle of a line if told to. */
  cut(inLine = false): void {
    this.#opened = Promise.withResolvers();
    for (const watcher of this.#watchers.splice(0)) {
      if (inLine) watcher.enqueue(Buffer.from('{"type":"ADDED","obj'));
      watcher.close();
    }
  }

  async stop(): Promise<void> {
    await this.#server.stop(true);
  }

  #answer(request: Request): Response {
    const query = new URL(request.url).searchParams;
    if (query.get("watch") !== "true") {
      this.lists.push(query.get("labelSelector") ?? "");
      return Response.json({ metadata: { resourceVersion: String(this.version) }, items: this.pods });
    }
    this.watches.push(query.get("resourceVersion") ?? "");
    if (this.expired) {
      this.expired = false;
      const status = { kind: "Status", code: 410, reason: "Expired", message: "too old resource version" };
      return new Response(`${JSON.stringify({ type: "ERROR", object: status })}\n`);
    }
    return new Response(
      new ReadableStream({
        start: (controller) => {
          controller.enqueue(new Uint8Array());
          this.#watchers.push(controller);
          this.#opened.resolve();
        },
      }),
    );
  }
}

function pod(name: string, phase = "Pending"): V1Pod {
  return { metadata: { name }, status: { phase } };
}

let server: ScriptedServer;
let watch: PodWatch;
let dir: string;

beforeEach(async () => {
  server = new ScriptedServer();
  dir = await mkdtemp("/tmp/sandbox-watch-");
  const file = join(dir, "kubeconfig");
  const config = {
    apiVersion: "v1",
    kind: "Config",
    "current-context": "it",
    clusters: [{ name: "it", cluster: { server: server.url, "insecure-skip-tls-verify": true } }],
    users: [{ name: "it", user: {} }],
    contexts: [{ name: "it", context: { cluster: "it", user: "it" } }],
  };
  await Bun.write(file, JSON.stringify(config));
  const client = await KubernetesClient.open("somewhere", file);
  watch = new PodWatch(client, "a=b", createLog({ level: "error", format: "text" }));
});

afterEach(async () => {
  server.cut();
  await watch.stop();
  await server.stop();
  await rm(dir, { recursive: true });
});

/** Resolves once the Pod is as said. */
async function until(name: string, isSo: (one: V1Pod | undefined) => boolean): Promise<void> {
  const limit = AbortSignal.timeout(10_000);
  for (;;) {
    const news = watch.changed(name, limit);
    if (isSo(watch.get(name))) return;
    limit.throwIfAborted();
    await news;
  }
}

test("lists once and follows from there", async () => {
  server.pods = [pod("a")];
  watch.start();
  await watch.synced(5000);
  expect(watch.get("a")?.status?.phase).toBe("Pending");
  await server.watched();
  server.change("MODIFIED", pod("a", "Running"));
  await until("a", (one) => one?.status?.phase === "Running");
  server.change("ADDED", pod("b"));
  await until("b", (one) => one !== undefined);
  server.change("DELETED", pod("a"));
  await until("a", (one) => one === undefined);
  expect(server.lists).toEqual(["a=b"]);
  expect(server.watches).toEqual(["1"]);
});

test("goes on where a watch was cut, bookmarks included", async () => {
  watch.start();
  await server.watched();
  server.change("ADDED", pod("a"));
  server.event("BOOKMARK", { metadata: { resourceVersion: "40" } });
  await until("a", (one) => one !== undefined);
  server.cut(true);
  await server.watched();
  server.version = 40;
  server.change("MODIFIED", pod("a", "Running"));
  await until("a", (one) => one?.status?.phase === "Running");
  expect(server.watches.at(-1)).toBe("40");
  expect(server.lists.length).toBe(1);
});

test("lists anew when that point is forgotten, and tells of what is gone meanwhile", async () => {
  server.pods = [pod("a"), pod("b")];
  watch.start();
  await server.watched();
  server.expired = true;
  server.pods = [pod("b", "Running")];
  server.version = 100;
  server.cut();
  await until("a", (one) => one === undefined);
  await until("b", (one) => one?.status?.phase === "Running");
  await server.watched();
  expect(server.watches.at(-1)).toBe("100");
  expect(server.lists.length).toBe(2);
});

test("without an API server nothing can be told", async () => {
  await server.stop();
  watch.start();
  const error = await watch.synced(50).catch((one: unknown) => one);
  expect(error).toMatchObject({ code: "executor_unavailable" });
});

test("a waiter that gives up is let go", async () => {
  watch.start();
  await watch.synced(5000);
  await watch.changed("nobody", AbortSignal.timeout(10));
});
