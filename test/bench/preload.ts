/** What `import` of heavy modules costs an execution, with and without `preload_modules`: `bun test/bench/preload.ts [MODULE…]`. */
import { Client } from "../e2e/client.ts";
import { startServer } from "../e2e/server.ts";
import { machine, reportLatency, sample } from "./figures.ts";

const modules = process.argv.length > 2 ? process.argv.slice(2) : ["numpy", "pandas"];

async function importTime(client: Client, name: string, preload: string[]): Promise<void> {
  const template = `bench-${name}-${preload.length}`;
  await client.post("/templates", {
    id: template,
    name: template,
    image_url: "sandbox-template-python-basic",
    runtime_type: "python3.11",
    preload_modules: preload,
  });
  const session = await client.session({ template_id: template });
  const isThere = `import sys\ndef handler(event):\n    return ${JSON.stringify(name)} in sys.modules`;
  while (preload.length > 0 && (await client.run(session, isThere))["return_value"] !== true) await Bun.sleep(50);
  const times = await sample(40, 3, async () => {
    const { status, stderr } = await client.run(session, `import ${name}\ndef handler(event): return 1`);
    if (status !== "completed") throw new Error(stderr);
  });
  reportLatency(`execution that imports ${name}${preload.length > 0 ? ", preloaded" : ""}`, times);
  await client.raw("DELETE", `/sessions/${session}`);
}

console.log(await machine());
const server = await startServer();
const client = new Client(server.url);
try {
  for (const name of modules) for (const preload of [[], [name]]) await importTime(client, name, preload);
} finally {
  await server.stop();
}
