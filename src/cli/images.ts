import { join } from "node:path";
import { loadConfig, takeFlags } from "../config.ts";
import { openDataDirectory, type DataDirectory } from "../data-directory.ts";
import { clearRemovedImages, importImage, listImages, removeImage } from "../executor/images.ts";
import { takeLock } from "../process-lock.ts";

const HELP = `sandbox images: root file systems that templates may name as image_url on this machine

Usage:
  sandbox images import NAME ROOTFS.tar   unpack a root file system (as docker export makes one), in place of one of that name
  sandbox images list
  sandbox images remove NAME

  --data-dir DIR   the data directory of sandbox serve (or DATA_DIR)
`;

/** `sandbox images`. Throws ConfigError and AppError. */
export async function imagesCommand(argv: string[]): Promise<number> {
  const { flags, rest } = takeFlags(argv);
  const [verb, name, tar, ...more] = rest;
  if (verb === "--help") {
    process.stdout.write(HELP);
    return 0;
  }
  const directory = openDataDirectory(loadConfig(process.env, flags).dataDir);
  if (verb === "list" && name === undefined) {
    process.stdout.write(
      listImages(directory.path)
        .map((one) => `${one}\n`)
        .join(""),
    );
    return 0;
  }
  if (verb === "import" && name !== undefined && tar !== undefined && more.length === 0) {
    await importImage(directory.path, name, tar);
    await clearUnused(directory);
    return 0;
  }
  if (verb === "remove" && name !== undefined && tar === undefined) {
    if (!removeImage(directory.path, name)) {
      process.stderr.write(`sandbox: there is no image ${name}: see sandbox images list\n`);
      return 1;
    }
    await clearUnused(directory);
    return 0;
  }
  process.stderr.write("sandbox images: import NAME ROOTFS.tar, list or remove NAME; see sandbox images --help\n");
  return 2;
}

/** At once when no executor runs; else the next one does it, since sandboxes may still use what was there. */
async function clearUnused(directory: DataDirectory): Promise<void> {
  const lock = takeLock(join(directory.executor, "lock"));
  if (lock === null) return;
  try {
    await clearRemovedImages(directory.path);
  } finally {
    lock.release();
  }
}
