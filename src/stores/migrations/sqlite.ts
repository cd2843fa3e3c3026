import type { Migration } from "./migration.ts";
import records from "./sqlite/0001_records.sql" with { type: "text" };
import network from "./sqlite/0002_network.sql" with { type: "text" };
import preload from "./sqlite/0003_preload.sql" with { type: "text" };
import templateNetwork from "./sqlite/0004_template_network.sql" with { type: "text" };
import upkeep from "./sqlite/0005_upkeep.sql" with { type: "text" };
import templateTimeout from "./sqlite/0006_template_timeout.sql" with { type: "text" };
import warmPods from "./sqlite/0007_warm_pods.sql" with { type: "text" };
import egressDecisions from "./sqlite/0008_egress_decisions.sql" with { type: "text" };

export const SQLITE_MIGRATIONS: readonly Migration[] = [
  { version: 1, name: "records", sql: records },
  { version: 2, name: "network", sql: network },
  { version: 3, name: "preload", sql: preload },
  { version: 4, name: "template_network", sql: templateNetwork },
  { version: 5, name: "upkeep", sql: upkeep },
  { version: 6, name: "template_timeout", sql: templateTimeout },
  { version: 7, name: "warm_pods", sql: warmPods },
  { version: 8, name: "egress_decisions", sql: egressDecisions },
];
