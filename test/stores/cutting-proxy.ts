import type { Socket } from "bun";

type Link = { client: Socket<Link>; server: Socket<Link> | null; early: Uint8Array[]; isCut: boolean };

/** Stands before a server and cuts a connection when a client says a word: before the server hears it, or when it answers. */
export class CuttingProxy {
  readonly port: number;
  readonly #listener;
  #cut: { word: string | Uint8Array; when: "before" | "after" } | null = null;
  /** Connections that were cut. */
  cuts = 0;

  constructor(target: number) {
    this.#listener = Bun.listen<Link>({
      hostname: "127.0.0.1",
      port: 0,
      socket: {
        async open(client) {
          const link: Link = { client, server: null, early: [], isCut: false };
          client.data = link;
          const upstream = Bun.connect<Link>({
            hostname: "127.0.0.1",
            port: target,
            data: link,
            socket: {
              data: (_server, bytes) => (link.isCut ? client.terminate() : void client.write(bytes)),
              close: () => void client.end(),
            },
          });
          link.server = await upstream.catch(() => null);
          if (link.server === null) client.end();
          for (const bytes of link.early) link.server?.write(bytes);
        },
        data: (client, bytes) => this.#take(client.data, bytes),
        close: (client) => void client.data.server?.end(),
      },
    });
    this.port = this.#listener.port;
  }

  #take(link: Link, bytes: Uint8Array): void {
    if (link.server === null) return void link.early.push(bytes.slice());
    const cut = this.#cut !== null && Buffer.from(bytes).includes(this.#cut.word) ? this.#cut : null;
    if (cut?.when !== "before") link.server.write(bytes);
    if (cut === null) return;
    this.#cut = null;
    this.cuts++;
    if (cut.when === "after") link.isCut = true;
    else link.client.terminate();
  }

  /** Cuts the next connection on which `word` is said. */
  cutNext(word: string | Uint8Array, when: "before" | "after"): void {
    this.#cut = { word, when };
  }

  stop(): void {
    this.#listener.stop(true);
  }
}
