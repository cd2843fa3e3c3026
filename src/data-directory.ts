import {
  accessSync,
  chmodSync,
  constants,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { ConfigError } from "./config.ts";
import { takeLock, type ProcessLock } from "./process-lock.ts";

/** Longest path of a unix socket, in bytes (sun_path without its final NUL). */
const MAX_SOCKET_PATH = 107;
const LOCK = "lock";
const PID = "lock.pid";

/** Directories in a data directory, with their modes: users of sandboxes pass through to their own workspace only. */
const DIRECTORIES = { workspaces: 0o711, objects: 0o700, journals: 0o700, executor: 0o700 } as const;

export type DataDirectory = {
  path: string;
  objects: string;
  journals: string;
  workspaces: string;
  executor: string;
};

/** Makes the data directory, or checks that it is one, and gives everything its mode. Throws ConfigError. */
export function openDataDirectory(path: string): DataDirectory {
  const socket = join(path, "executor/socket");
  if (Buffer.byteLength(socket) > MAX_SOCKET_PATH)
    throw new ConfigError(
      `DATA_DIR=${path} is too long: the path of the executor's socket, ${socket}, may have ${MAX_SOCKET_PATH} bytes`,
    );
  const open = { path, ...paths(path) };
  try {
    mkdirSync(path, { recursive: true, mode: 0o755 });
    refuseForeign(path);
    accessSync(path, constants.R_OK | constants.W_OK | constants.X_OK);
    if (!existsSync(join(path, LOCK))) makeLockFile(join(path, LOCK));
    for (const [name, mode] of Object.entries(DIRECTORIES)) makeDirectory(join(path, name), mode);
    setMode(path, 0o711);
  } catch (error) {
    throw unusable(path, error);
  }
  return open;
}

function paths(path: string): Omit<DataDirectory, "path"> {
  return {
    objects: join(path, "objects"),
    journals: join(path, "journals"),
    workspaces: join(path, "workspaces"),
    executor: join(path, "executor"),
  };
}

/** A mistyped DATA_DIR such as /tmp must not have its mode changed. */
function refuseForeign(path: string): void {
  const names = readdirSync(path);
  if (names.includes(LOCK) || names.every((name) => name === "lost+found" || name in DIRECTORIES)) return;
  throw new ConfigError(`DATA_DIR=${path} is not empty and not a data directory: allowed is an empty or new directory`);
}

/** Never opens one that exists: closing it again would let go of a lock that this process has. */
function makeLockFile(path: string): void {
  writeFileSync(path, "", { flag: "a", mode: 0o600 });
}

function makeDirectory(path: string, mode: number): void {
  mkdirSync(path, { recursive: true, mode });
  setMode(path, mode);
}

/** Leaves alone what belongs to another user: a mounted volume has its modes from whoever mounted it. */
function setMode(path: string, mode: number): void {
  const { uid, mode: present } = statSync(path);
  if ((present & 0o7777) !== mode && (uid === process.getuid?.() || process.getuid?.() === 0)) chmodSync(path, mode);
}

function unusable(path: string, error: unknown): unknown {
  const { code, message } = error as NodeJS.ErrnoException;
  if (error instanceof ConfigError || code === undefined) return error;
  const reasons: Record<string, string> = {
    EACCES: "permission denied",
    EPERM: "operation not permitted",
    EROFS: "read-only file system",
    ENOTDIR: "not a directory",
    EEXIST: "not a directory",
    ENOSPC: "no space left on the device",
  };
  return new ConfigError(`DATA_DIR=${path} can't be written: ${reasons[code] ?? message}`);
}

/** Makes this process the one `serve` of the data directory. Throws ConfigError that names the process that has it. */
export function lockDataDirectory({ path }: DataDirectory): ProcessLock {
  let lock: ProcessLock | null = null;
  try {
    lock = takeLock(join(path, LOCK));
    if (lock !== null) writeFileSync(join(path, PID), `${process.pid}\n`, { mode: 0o600 });
  } catch (error) {
    lock?.release();
    throw unusable(path, error);
  }
  if (lock !== null) return lock;
  throw new ConfigError(
    `DATA_DIR=${path} is in use by another sandbox serve${holder(path)}: end it or choose another directory`,
  );
}

function holder(path: string): string {
  try {
    return ` (pid ${Number(readFileSync(join(path, PID), "utf8"))})`;
  } catch {
    return "";
  }
}
