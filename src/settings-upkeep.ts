import { optionalBound } from "./setting.ts";

const DAY_MS = 24 * 3600_000;

/** How long what has ended is kept. */
export const UPKEEP_SETTINGS = {
  sessionRetentionMs: optionalBound("SESSION_RETENTION_DAYS", {
    default: 30,
    max: 36_500,
    scale: DAY_MS,
    about: "days after its end at which a session is deleted with its executions and files; -1 never",
  }),
  executionRetentionMs: optionalBound("EXECUTION_RETENTION_DAYS", {
    default: 30,
    max: 36_500,
    scale: DAY_MS,
    about:
      "days after its end at which an execution is deleted, also while its session lives; -1 only with its session",
  }),
};
