import { afterAll, beforeAll, describe } from "bun:test";
import { HAS_CLUSTER, mayInstall, removeInstallation } from "./cluster.ts";
import { describeAutoscaler } from "./service/autoscaler.ts";
import { describeConformance } from "./service/conformance.ts";
import { Deployed } from "./service/deployed.ts";
import { describeInstallation, describeUninstallation } from "./service/installation.ts";
import { describeKills } from "./service/kills.ts";
import { describeReplicas } from "./service/replicas.ts";
import { describeRollout } from "./service/rollout.ts";

/** CLUSTER_INSTALLED=1: the service that is there is tested, and left there. */
const isGiven = process.env["CLUSTER_INSTALLED"] === "1";
const canRun = HAS_CLUSTER && (isGiven || (await mayInstall()));

describe.skipIf(!canRun)("the service on a cluster", () => {
  afterAll(async () => {
    if (!isGiven) await removeInstallation();
  }, 180_000);

  if (!isGiven) describeInstallation();
  describe("as it is installed", () => {
    let found: Deployed;
    const deployed = (): Deployed => found;
    beforeAll(async () => {
      found = await Deployed.find();
    });
    describeConformance(deployed, !isGiven);
    describeAutoscaler(deployed);
    describeReplicas(deployed);
    describeRollout(deployed);
    describeKills(deployed);
  });
  if (!isGiven) describeUninstallation();
});
