import { readdir, readFile } from "node:fs/promises";

/** What came over a connection, and whether the server has closed it. */
export type Connection = {
  received: string;
  bytes: number;
  isClosed: boolean;
  closed: Promise<void>;
  send(text: string | Uint8Array): void;
  end(): void;
};

/** Opens a connection. */
export async function open(url: string): Promise<Connection> {
  const { hostname, port } = new URL(url);
  const closed = Promise.withResolvers<void>();
  const connection: Connection = {
    received: "",
    bytes: 0,
    isClosed: false,
    closed: closed.promise,
    send: (text) => void (connection.isClosed || (socket.write(text), socket.flush())),
    end: () => void socket.end(),
  };
  const over = (): void => {
    connection.isClosed = true;
    closed.resolve();
  };
  const decoder = new TextDecoder();
  const socket = await Bun.connect({
    hostname,
    port: Number(port),
    socket: {
      data(_, chunk) {
        connection.bytes += chunk.length;
        connection.received += decoder.decode(chunk, { stream: true });
      },
      close: over,
      error: over,
    },
  });
  return connection;
}

/** Resolves with the status of the answer, or null when the connection was closed without one. */
export async function statusOf(connection: Connection): Promise<number | null> {
  for (;;) {
    const status = /^HTTP\/1\.1 (\d{3})/.exec(connection.received)?.[1];
    if (status !== undefined) return Number(status);
    if (connection.isClosed) return null;
    await Promise.race([Bun.sleep(5), connection.closed]);
  }
}

/** What a process holds: MiB of memory, open descriptors. */
export type Held = { mib: number; descriptors: number };

export async function heldBy(pid: number): Promise<Held> {
  const [status, descriptors] = await Promise.all([
    readFile(`/proc/${pid}/status`, "utf8"),
    readdir(`/proc/${pid}/fd`),
  ]);
  const kib = Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1]);
  return { mib: Math.round(kib / 1024), descriptors: descriptors.length };
}

/** Resolves once `look` is true; throws after `limitMs`. */
export async function until(what: string, look: () => boolean | Promise<boolean>, limitMs = 20_000): Promise<void> {
  const end = performance.now() + limitMs;
  while (!(await look())) {
    if (performance.now() > end) throw new Error(`${what}: not within ${limitMs} ms`);
    await Bun.sleep(20);
  }
}
