import type { Migration } from "./migration.ts";
import records from "./mysql/0001_records.sql" with { type: "text" };
import network from "./mysql/0002_network.sql" with { type: "text" };
import preload from "./mysql/0003_preload.sql" with { type: "text" };
import templateNetwork from "./mysql/0004_template_network.sql" with { type: "text" };
import upkeep from "./mysql/0005_upkeep.sql" with { type: "text" };
import templateTimeout from "./mysql/0006_template_timeout.sql" with { type: "text" };
import warmPods from "./mysql/0007_warm_pods.sql" with { type: "text" };
import egressDecisions from "./mysql/0008_egress_decisions.sql" with { type: "text" };

/** Each of its statements can run again, because a server commits them one by one. */
export const MYSQL_MIGRATIONS: readonly Migration[] = [
  { version: 1, name: "records", sql: records },
  { version: 2, name: "network", sql: network },
  { version: 3, name: "preload", sql: preload },
  { version: 4, name: "template_network", sql: templateNetwork },
  { version: 5, name: "upkeep", sql: upkeep },
  { version: 6, name: "template_timeout", sql: templateTimeout },
  { version: 7, name: "warm_pods", sql: warmPods },
  { version: 8, name: "egress_decisions", sql: egressDecisions },
];
