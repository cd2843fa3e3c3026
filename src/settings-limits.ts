import { decimal, whole } from "./setting.ts";

const MEBIBYTE = 1024 ** 2;
const PETABYTE = 1e15;

/** The most that a session, an execution or a request may take. */
export const LIMIT_SETTINGS = {
  maxCpu: decimal("MAX_CPU", {
    default: 4,
    min: 0.1,
    max: 1024,
    about: "most cores that a session may ask for",
  }),
  maxMemoryBytes: whole("MAX_MEMORY_MB", {
    default: 8192,
    min: 16,
    max: 16_777_216,
    scale: MEBIBYTE,
    about: "most memory that a session may ask for, in MiB",
  }),
  maxDiskBytes: whole("MAX_DISK_MB", {
    default: 51_200,
    min: 16,
    max: 1_073_741_824,
    scale: MEBIBYTE,
    about: "most disk that a session may ask for, in MiB",
  }),
  maxProcesses: whole("MAX_PROCESSES", {
    default: 128,
    min: 8,
    max: 4_194_304,
    about: "processes and threads of a session at once",
  }),
  maxRunningPerSession: whole("MAX_RUNNING_PER_SESSION", {
    default: 8,
    min: 1,
    max: 1024,
    about: "executions of a session that run at once",
  }),
  maxWaitingPerSession: whole("MAX_WAITING_PER_SESSION", {
    default: 64,
    min: 0,
    max: 65_536,
    about: "executions of a session that wait their turn; one more is answered 429",
  }),
  outputLimitBytes: whole("OUTPUT_LIMIT_BYTES", {
    default: 10_000_000,
    min: 0,
    max: 1_000_000_000,
    about: "bytes of each of stdout and stderr that a record keeps",
  }),
  journalLimitBytes: whole("JOURNAL_LIMIT_BYTES", {
    default: 268_435_456,
    min: 65_536,
    max: PETABYTE,
    about: "bytes of output of one execution that can be followed; the rest is cut",
  }),
  maxFileBytes: whole("MAX_FILE_BYTES", {
    default: 104_857_600,
    min: 1,
    max: PETABYTE,
    about: "largest file that can be uploaded, in bytes",
  }),
  maxBodyBytes: whole("MAX_BODY_BYTES", {
    default: 16 * MEBIBYTE,
    min: 1024,
    max: 1_073_741_824,
    about: "largest JSON body of a request, in bytes",
  }),
  bodyPatienceMs: whole("BODY_TIMEOUT_SECONDS", {
    default: 30,
    min: 1,
    max: 3600,
    scale: 1000,
    about:
      "seconds for which the body of a request may bring nothing, or less than 8 KiB/s on average; then it is answered 408",
  }),
  layersLimitBytes: whole("LAYERS_LIMIT_MB", {
    default: 4096,
    min: 16,
    max: 1_073_741_824,
    scale: MEBIBYTE,
    about: "disk of installed Python packages, in MiB; the least recently used go first",
  }),
};
