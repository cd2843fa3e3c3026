import { loadConfig, takeFlags } from "../config.ts";
import { importImage, listImages, removeImage } from "../executor/images.ts";

const HELP = `sandbox images: root file systems that templates may name as image_url on this machine

Usage:
  sandbox images import NAME ROOTFS.tar   unpack a root file system, in place of one of that name
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
  const { dataDir } = loadConfig(process.env, flags);
  if (verb === "list" && name === undefined) {
    process.stdout.write(
      listImages(dataDir)
        .map((one) => `${one}\n`)
        .join(""),
    );
    return 0;
  }
  if (verb === "import" && name !== undefined && tar !== undefined && more.length === 0) {
    await importImage(dataDir, name, tar);
    return 0;
  }
  if (verb === "remove" && name !== undefined && tar === undefined) {
    if (removeImage(dataDir, name)) return 0;
    process.stderr.write(`sandbox: there is no image ${name}\n`);
    return 1;
  }
  process.stderr.write("sandbox images: import NAME ROOTFS.tar, list or remove NAME; see sandbox images --help\n");
  return 2;
}
