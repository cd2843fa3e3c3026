import { beforeAll, describe } from "bun:test";
import { HAS_CLUSTER } from "./cluster.ts";
import { Deployed } from "./service/deployed.ts";
import { describeKills } from "./service/kills.ts";
import { describeReplicas } from "./service/replicas.ts";
import { describeRollout } from "./service/rollout.ts";

describe.skipIf(!HAS_CLUSTER)("the deployed service", () => {
  let found: Deployed;
  const deployed = (): Deployed => found;
  beforeAll(async () => {
    found = await Deployed.find();
  });
  describeReplicas(deployed);
  describeRollout(deployed);
  describeKills(deployed);
});
