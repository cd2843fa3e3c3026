import { afterAll, beforeAll } from "bun:test";
import { Client } from "../e2e/client.ts";
import { startServer, type Server } from "../e2e/server.ts";

/**
 * What the conformance suite talks to: the service at SANDBOX_URL (with SANDBOX_API_KEY), such as a cluster's, or else the
 * compiled executable, started for this file. Returns a getter because it is there only once the tests run.
 */
export function conformanceTarget(): () => Client {
  let client: Client | null = null;
  let server: Server | null = null;
  beforeAll(async () => {
    const url = process.env.SANDBOX_URL;
    const key = process.env.SANDBOX_API_KEY;
    if (url === undefined) server = await startServer();
    client = new Client(url ?? server?.url ?? "", key === undefined ? {} : { Authorization: `Bearer ${key}` });
  });
  afterAll(async () => {
    await server?.stop();
  });
  return () => {
    if (client === null) throw new Error("the target is there only inside a test");
    return client;
  };
}
