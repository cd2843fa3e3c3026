import { join } from "node:path";

/** Preloaded for follow-eventsource.ts: Bun has no EventSource; the Kubernetes client brings undici, whose is the standard's. */
const file = join(import.meta.dir, "../../node_modules", "undici", "lib/web/eventsource/eventsource.js");
Object.assign(globalThis, { EventSource: ((await import(file)) as { EventSource: unknown }).EventSource });

/** Its wait for the next connection does not keep a process up; a page stays anyway. */
const staying = setInterval(() => {
  if (process.exitCode !== undefined) clearInterval(staying);
}, 50);
