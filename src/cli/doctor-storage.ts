import { existsSync, mkdtempSync, rmdirSync, statfsSync } from "node:fs";
import { dirname, join } from "node:path";
import { missing, ok, weaker, type Finding } from "./doctor-finding.ts";

/** Space that the data directory should have at least, in bytes, and files. */
const MIN_FREE_BYTES = 2 * 1024 ** 3;
const MIN_FREE_FILES = 100_000;
const OTHER_DIRECTORY = "choose another with DATA_DIR or --data-dir";

/** Writes where the data directory is or would be; makes no data directory. */
export function dataDirectory(dataDir: string): Finding {
  const name = "data directory";
  const dir = nearest(dataDir);
  try {
    rmdirSync(mkdtempSync(join(dir, ".sandbox-doctor-")));
  } catch (error) {
    const { code = "" } = error as NodeJS.ErrnoException;
    return missing(name, `${dir} can't be written (${code})`, OTHER_DIRECTORY);
  }
  return ok(name, dir === dataDir ? `${dataDir} can be written` : `${dataDir} can be made in ${dir}`);
}

/** Room on the file system of the data directory, in bytes and in files. */
export function disk(dataDir: string): Finding {
  const dir = nearest(dataDir);
  const { bavail, bsize, files, ffree } = statfsSync(dir);
  const isUnbounded = files === 0;
  const found = `${((bavail * bsize) / 1024 ** 3).toFixed(1)} GiB and ${isUnbounded ? "any number of" : ffree} files free at ${dir}`;
  const isEnough = bavail * bsize >= MIN_FREE_BYTES && (isUnbounded || ffree >= MIN_FREE_FILES);
  return isEnough ? ok("disk", found) : weaker("disk", found, `make room, or ${OTHER_DIRECTORY}`);
}

/** The directory itself, or the first above it that exists. */
function nearest(path: string): string {
  let dir = path;
  while (!existsSync(dir)) dir = dirname(dir);
  return dir;
}
