import type { Socket } from "bun";

type Link = { peer: Socket<Link> | null; early: Uint8Array[] };

/** A way to a server that can be closed and opened again, as a network does. */
export class Relay {
  readonly port: number;
  readonly #listener;
  readonly #links = new Set<Socket<Link>>();
  #isOpen = true;

  constructor(hostname: string, port: number) {
    this.#listener = Bun.listen<Link>({
      hostname: "127.0.0.1",
      port: 0,
      socket: {
        open: (client) => void this.#join(client, hostname, port),
        data: ({ data: link }, bytes) =>
          void (link.peer === null ? link.early.push(bytes.slice()) : link.peer.write(bytes)),
        close: (client) => this.#leave(client),
      },
    });
    this.port = this.#listener.port;
  }

  async #join(client: Socket<Link>, hostname: string, port: number): Promise<void> {
    const link: Link = { peer: null, early: [] };
    client.data = link;
    if (!this.#isOpen) return client.terminate();
    this.#links.add(client);
    const peer = await Bun.connect<Link>({
      hostname,
      port,
      data: { peer: client, early: [] },
      socket: { data: (_, bytes) => void client.write(bytes), close: () => void client.end() },
    });
    for (const bytes of link.early) peer.write(bytes);
    link.peer = peer;
  }

  #leave(client: Socket<Link>): void {
    this.#links.delete(client);
    client.data?.peer?.end();
  }

  /** Ends every connection and takes no more. */
  close(): void {
    this.#isOpen = false;
    for (const client of this.#links) client.terminate();
  }

  open(): void {
    this.#isOpen = true;
  }

  stop(): void {
    this.#listener.stop(true);
  }
}
