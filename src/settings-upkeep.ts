import { optionalBound, whole } from "./setting.ts";

const MEBIBYTE = 1024 ** 2;
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
  journalsLimitBytes: whole("JOURNALS_LIMIT_MB", {
    default: 10_240,
    min: 1,
    max: 1_073_741_824,
    scale: MEBIBYTE,
    about: "disk of all journals on this machine, in MiB; the oldest of what has ended go first, then output is cut",
  }),
};
