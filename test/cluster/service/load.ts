import { join } from "node:path";
import type { Deployed } from "./deployed.ts";

/** What clients that retry nothing met. */
export type Load = { requests: number; connections: number; failures: string[] };

/**
 * Ordinary keep-alive clients in a process of their own (load.py), each of which sends a request `pauseS` seconds after
 * the answer to the last. Resolves when they have begun.
 */
export async function startLoad(
  deployed: Deployed,
  session: string,
  { workers, pauseS }: { workers: number; pauseS: number },
): Promise<{ stop(): Promise<Load> }> {
  const child = Bun.spawn(["python3", join(import.meta.dir, "load.py"), deployed.url, `${workers}`, `${pauseS}`], {
    env: { PATH: process.env["PATH"] ?? "/usr/bin:/bin", API_KEY: deployed.key, SESSION: session },
    stdin: "pipe",
    stdout: "pipe",
    stderr: "inherit",
  });
  const reader = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  let said = "";
  while (!said.includes("started\n")) {
    const { done, value } = await reader.read();
    if (done) throw new Error(`the clients ended: ${said}`);
    said += value;
  }
  return {
    async stop() {
      void child.stdin.end();
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        said += value;
      }
      return JSON.parse(said.slice("started\n".length)) as Load;
    },
  };
}
