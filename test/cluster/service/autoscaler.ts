import { expect, test } from "bun:test";
import { eventually, kubectl, SYSTEM } from "../cluster.ts";
import { rolledOut, type Deployed } from "./deployed.ts";
import { startLoad } from "./load.ts";

/** More than the two that there are without load, and no more than a small cluster has room for. */
const MOST = 4;

async function wanted(): Promise<number> {
  const path = "jsonpath={.spec.replicas}";
  return Number(await kubectl(["get", "deployment", "sandbox-control-plane", ...SYSTEM, "-o", path]));
}

/** The autoscaler acts on what it sees. */
export function describeAutoscaler(deployed: () => Deployed): void {
  test("the autoscaler adds replicas under load, and they are ready to serve", async () => {
    const bound = JSON.stringify({ spec: { maxReplicas: MOST } });
    await kubectl(["patch", "hpa", "sandbox-control-plane", ...SYSTEM, "-p", bound]);
    const client = deployed().client();
    const session = await client.session();
    const before = await wanted();
    const load = await startLoad(deployed(), session, { workers: 8, pauseS: 0 });
    if (before < MOST) await eventually("more replicas", 150, async () => ((await wanted()) > before ? true : null));
    await rolledOut("sandbox-control-plane");
    const { failures, requests } = await load.stop();
    expect(failures).toEqual([]);
    expect(requests).toBeGreaterThan(8);
    expect((await deployed().replicas()).length).toBeGreaterThan(2);
    await client.call("DELETE", `/sessions/${session}`);
  }, 240_000);
}
