import { chmodSync, existsSync, lstatSync, mkdirSync, readdirSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { AppError } from "../errors.ts";
import { removeTree } from "./jail/remove-tree.ts";

/** Images that mean the host's own /usr, with any registry before them and any tag behind. */
const BUILT_IN = /^(?:.+\/)?sandbox-template-(?:python|nodejs)-basic(?::[A-Za-z0-9._-]+)?$/;
const NAME = /^[A-Za-z0-9][A-Za-z0-9._/:@-]{0,511}$/;
/** Of a file name; that of an image becomes one. */
const MAX_NAME_BYTES = 255;
/** Directories that a jail mounts over. */
const MOUNT_POINTS = ["proc", "dev", "tmp", "workspace", ".sandbox", ".layers", ".egress"];
/** Directories one of which every root file system has. */
const EXPECTED = ["usr", "bin"];

/** The root file system of an image; null: the host's own. Throws `image_unknown` for one that was not imported. */
export function resolveImage(dataDir: string, imageUrl: string): string | null {
  if (BUILT_IN.test(imageUrl)) return null;
  if (isName(imageUrl)) {
    const rootfs = join(imageDir(dataDir, imageUrl), "rootfs");
    if (existsSync(rootfs)) return rootfs;
  }
  throw new AppError("image_unknown", `image ${imageUrl} is not here: sandbox images import ${imageUrl} rootfs.tar`);
}

/**
 * Unpacks a root file system (tar, also compressed) under a name, in place of one that was there. Owners, device files and
 * set-user-id bits are not taken over. Sandboxes that run keep what they started with. Throws AppError `bad_request`.
 */
export async function importImage(dataDir: string, name: string, tarPath: string): Promise<void> {
  if (!isName(name)) throw new AppError("bad_request", `${name} is not an image name`);
  if (BUILT_IN.test(name)) throw new AppError("bad_request", `${name} is a name that means the host's own files`);
  if (!existsSync(tarPath)) throw new AppError("bad_request", `${tarPath} is not there`);
  const aside = newDirectory(dataDir, "new");
  try {
    const rootfs = join(aside, "rootfs");
    mkdirSync(rootfs, { mode: 0o755 });
    await unpack(tarPath, rootfs);
    if (!EXPECTED.some((entry) => isDirectory(join(rootfs, entry))))
      throw new AppError("bad_request", `${tarPath} is not a root file system, such as docker export makes one`);
    for (const path of [aside, rootfs]) chmodSync(path, 0o755);
    for (const mount of MOUNT_POINTS) makeMountPoint(join(rootfs, mount));
    removeImage(dataDir, name);
    renameSync(aside, imageDir(dataDir, name));
  } finally {
    await removeTree(aside);
  }
}

async function unpack(tarPath: string, rootfs: string): Promise<void> {
  const skip = ["--exclude=dev/*", "--exclude=./dev/*"];
  const options = ["--no-same-owner", "--no-same-permissions", "--delay-directory-restore", ...skip];
  for (const command of [
    ["tar", "-x", ...options, "-f", tarPath, "-C", rootfs],
    ["find", rootfs, "-xdev", "(", "-type", "b", "-o", "-type", "c", "-o", "-type", "p", ")", "-delete"],
    ["find", rootfs, "-xdev", "-type", "f", "-perm", "/6000", "-exec", "chmod", "ug-s", "{}", "+"],
  ]) {
    const run = Bun.spawn(command, { stdin: "ignore", stdout: "ignore", stderr: "pipe" });
    const said = await new Response(run.stderr).text();
    if ((await run.exited) !== 0) throw new AppError("bad_request", `${tarPath} can't be unpacked: ${reasonIn(said)}`);
  }
}

/** The first line of tar's words that is not a mere notice. */
function reasonIn(said: string): string {
  const lines = said.trim().split("\n");
  return lines.find((line) => !/Removing leading|Exiting with failure/.test(line)) ?? lines[0] ?? "";
}

/** A link there could lead what is mounted elsewhere. */
function makeMountPoint(path: string): void {
  if (isDirectory(path)) return;
  rmSync(path, { force: true });
  mkdirSync(path, { mode: 0o755 });
}

function isDirectory(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false })?.isDirectory() === true;
}

/** Names of the imported images. */
export function listImages(dataDir: string): string[] {
  const dir = join(dataDir, "images");
  if (!existsSync(dir)) return [];
  const whole = readdirSync(dir).filter((name) => !name.startsWith("."));
  return whole.map((name) => decodeURIComponent(name)).toSorted();
}

/** False when there is no such image. Its files stay until `clearRemovedImages`, since sandboxes may still use them. */
export function removeImage(dataDir: string, name: string): boolean {
  const home = imageDir(dataDir, name);
  if (!isName(name) || !existsSync(home)) return false;
  renameSync(home, join(newDirectory(dataDir, "old"), "image"));
  return true;
}

/** Deletes the files of images that were removed or replaced, and what a killed import left. No sandbox may run. */
export async function clearRemovedImages(dataDir: string): Promise<void> {
  const dir = join(dataDir, "images");
  if (!existsSync(dir)) return;
  for (const name of readdirSync(dir)) if (name.startsWith(".")) await removeTree(join(dir, name));
}

function newDirectory(dataDir: string, purpose: string): string {
  const images = join(dataDir, "images");
  mkdirSync(images, { recursive: true });
  chmodSync(images, 0o711);
  const path = join(images, `.${purpose}-${crypto.randomUUID()}`);
  mkdirSync(path, { mode: 0o755 });
  return path;
}

function isName(name: string): boolean {
  return NAME.test(name) && Buffer.byteLength(encodeURIComponent(name)) <= MAX_NAME_BYTES;
}

function imageDir(dataDir: string, name: string): string {
  return join(dataDir, "images", encodeURIComponent(name));
}
