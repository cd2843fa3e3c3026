import { existsSync, mkdirSync, readdirSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { AppError } from "../errors.ts";

/** Images that mean the host's own /usr, with any registry before them and any tag behind. */
const BUILT_IN = /^(?:.+\/)?sandbox-template-(?:python|nodejs)-basic(?::[A-Za-z0-9._-]+)?$/;
const NAME = /^[A-Za-z0-9][A-Za-z0-9._/:@-]{0,511}$/;
/** Directories that a jail mounts over. */
const MOUNT_POINTS = ["proc", "dev", "tmp", "workspace", ".sandbox", ".layers", ".egress"];

/** The root file system of an image; null: the host's own. Throws `image_unknown` for one that was not imported. */
export function resolveImage(dataDir: string, imageUrl: string): string | null {
  if (BUILT_IN.test(imageUrl)) return null;
  const rootfs = join(imageDir(dataDir, imageUrl), "rootfs");
  if (NAME.test(imageUrl) && existsSync(rootfs)) return rootfs;
  throw new AppError("image_unknown", `image ${imageUrl} is not here: sandbox images import ${imageUrl} rootfs.tar`);
}

/** Unpacks a root file system under a name, in place of one that was there. Throws AppError `bad_request`. */
export async function importImage(dataDir: string, name: string, tarPath: string): Promise<void> {
  if (!NAME.test(name)) throw new AppError("bad_request", `${name} is not an image name`);
  if (!existsSync(tarPath)) throw new AppError("bad_request", `${tarPath} is not there`);
  const home = imageDir(dataDir, name);
  const aside = `${home}.new`;
  const rootfs = join(aside, "rootfs");
  rmSync(aside, { recursive: true, force: true });
  mkdirSync(rootfs, { recursive: true });
  const skip = ["--exclude=dev/*", "--exclude=./dev/*"];
  const options = ["--no-same-owner", "--no-same-permissions", ...skip, "-f", tarPath, "-C", rootfs];
  const tar = Bun.spawn(["tar", "-x", ...options], { stdout: "ignore", stderr: "pipe" });
  const said = await new Response(tar.stderr).text();
  if ((await tar.exited) !== 0) {
    rmSync(aside, { recursive: true, force: true });
    throw new AppError("bad_request", `${tarPath} can't be unpacked: ${said.trim().split("\n")[0]}`);
  }
  for (const mount of MOUNT_POINTS) mkdirSync(join(rootfs, mount), { recursive: true });
  rmSync(home, { recursive: true, force: true });
  renameSync(aside, home);
}

/** Names of the imported images. */
export function listImages(dataDir: string): string[] {
  const dir = join(dataDir, "images");
  if (!existsSync(dir)) return [];
  const whole = readdirSync(dir).filter((name) => !name.endsWith(".new"));
  return whole.map((name) => decodeURIComponent(name)).toSorted();
}

/** False when there is no such image. */
export function removeImage(dataDir: string, name: string): boolean {
  const home = imageDir(dataDir, name);
  if (!existsSync(home)) return false;
  rmSync(home, { recursive: true, force: true });
  return true;
}

function imageDir(dataDir: string, name: string): string {
  return join(dataDir, "images", encodeURIComponent(name));
}
