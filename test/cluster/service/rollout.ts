import { describe, expect, test } from "bun:test";
import { eventually, kubectl, SYSTEM } from "../cluster.ts";
import { rolledOut, type Deployed } from "./deployed.ts";
import { startLoad } from "./load.ts";

/** The end of each replica takes its grace, and then some. */
const ENDED_S = 60;
const CONTROL_PLANE = ["pods", "-l", "app=sandbox-control-plane", ...SYSTEM];

/** Resolves when no Pod of the control plane is about to end. */
function allEnded(): Promise<true> {
  return eventually("the old replicas are gone", ENDED_S, async () => {
    const ending = await kubectl(["get", ...CONTROL_PLANE, "-o", "jsonpath={.items[*].metadata.deletionTimestamp}"]);
    return ending === "" ? true : null;
  });
}

/** New versions, and other numbers of replicas, are nothing that a client notices. */
export function describeRollout(deployed: () => Deployed): void {
  describe("under load, without one failed request,", () => {
    test.each([
      ["a rolling restart", ["rollout", "restart", "deployment/sandbox-control-plane", ...SYSTEM]],
      ["scaling up to 3", ["scale", "deployment/sandbox-control-plane", "--replicas=3", ...SYSTEM]],
      ["scaling down to 2", ["scale", "deployment/sandbox-control-plane", "--replicas=2", ...SYSTEM]],
    ])(
      "%s",
      async (_, command) => {
        const client = deployed().client();
        const session = await client.session();
        const [busy, slow] = await Promise.all([
          startLoad(deployed(), session, { workers: 4, pauseS: 0.05 }),
          startLoad(deployed(), session, { workers: 4, pauseS: 1 }),
        ]);
        // Longer than the grace of a replica that ends.
        const code = { language: "python", code: "import time; time.sleep(9); print('all')" };
        const long = Array.from({ length: 4 }, () => client.post(`/executions/sessions/${session}/execute-sync`, code));
        await kubectl(command);
        await rolledOut("sandbox-control-plane");
        await allEnded();
        for (const load of [await busy.stop(), await slow.stop()]) {
          expect(load.failures).toEqual([]);
          expect(load.requests).toBeGreaterThan(4);
        }
        for (const answer of await Promise.all(long))
          expect(answer).toMatchObject({ status: 200, body: { status: "completed", stdout: "all\n" } });
        await client.call("DELETE", `/sessions/${session}`);
      },
      150_000,
    );
  });
}
