import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { ASSETS } from "./assets.ts";
import { etcVersion, makeEtc } from "./jail/etc.ts";
import { precompilePython } from "./languages/precompile.ts";

export type RuntimeFiles = {
  /** Becomes `/.sandbox`: init and the language runners. */
  dir: string;
  /** Becomes `/etc`. */
  etcDir: string;
  /** Becomes `/.layers`. */
  layersDir: string;
  /** The executable that runs JavaScript, readable by the users of sandboxes. */
  bun: string;
};

/** `bun` for programs that start one themselves. */
const BUN_SCRIPT = '#!/bin/sh\nBUN_BE_BUN=1 exec /.sandbox/bun "$@"\n';

/**
 * Puts what runs inside sandboxes on disk, below `<dataDir>/runtime`: made aside and renamed, so that what is there is whole.
 * What an earlier version left is removed. `forOthers`: users other than the executor's must be able to read it.
 */
export async function prepareRuntime(dataDir: string, forOthers: boolean): Promise<RuntimeFiles> {
  const top = join(dataDir, "runtime");
  mkdirSync(top, { recursive: true });
  chmodSync(top, 0o711);
  const version = await contentName();
  const etc = `etc-${etcVersion()}`;
  for (const old of readdirSync(top))
    if (old !== version && old !== etc) rmSync(join(top, old), { recursive: true, force: true });
  if (await makeOnce(top, version, fill)) void precompilePython(join(top, version, "sandbox"));
  await makeOnce(top, etc, makeEtc);
  const layersDir = join(dataDir, "layers");
  mkdirSync(layersDir, { recursive: true });
  chmodSync(layersDir, 0o711);
  const home = join(top, version);
  return { dir: join(home, "sandbox"), etcDir: join(top, etc), layersDir, bun: executable(home, forOthers) };
}

/** Makes a directory aside and renames it when it is whole. False when it was there. */
async function makeOnce(top: string, name: string, make: (dir: string) => unknown): Promise<boolean> {
  if (existsSync(join(top, name))) return false;
  const aside = join(top, `.new-${process.pid}`);
  await make(aside);
  renameSync(aside, join(top, name));
  return true;
}

/** A name that changes with any of the files, so that an upgrade never mixes two versions. */
async function contentName(): Promise<string> {
  const hash = new Bun.CryptoHasher("sha256");
  for (const asset of ASSETS) hash.update(asset.name).update(await Bun.file(asset.path).bytes());
  return hash.digest("hex").slice(0, 16);
}

async function fill(aside: string): Promise<void> {
  const dir = join(aside, "sandbox");
  for (const path of [dir, join(aside, "etc")]) mkdirSync(path, { recursive: true });
  for (const path of [aside, dir]) chmodSync(path, 0o755);
  await putRuntimeFiles(dir);
  makeEtc(join(aside, "etc"));
}

/** Init, the language runners and `bin/bun`; `bun` is an empty file, for the executable to be put over. */
export async function putRuntimeFiles(dir: string): Promise<void> {
  mkdirSync(join(dir, "bin"), { recursive: true });
  chmodSync(join(dir, "bin"), 0o755);
  for (const asset of ASSETS) {
    writeFileSync(join(dir, asset.name), await Bun.file(asset.path).bytes());
    chmodSync(join(dir, asset.name), asset.mode);
  }
  writeFileSync(join(dir, "bun"), "");
  writeFileSync(join(dir, "bin/bun"), BUN_SCRIPT);
  chmodSync(join(dir, "bin/bun"), 0o755);
}

/** This executable itself where everybody may read it, else a copy: a sandbox's user opens it by its path. */
function executable(home: string, forOthers: boolean): string {
  const own = process.execPath;
  if (!forOthers || isReadableByAll(own)) return own;
  const copy = join(home, "bun");
  if (statSync(copy, { throwIfNoEntry: false })?.size !== statSync(own).size) {
    copyFileSync(own, `${copy}.new`);
    chmodSync(`${copy}.new`, 0o755);
    renameSync(`${copy}.new`, copy);
  }
  return copy;
}

function isReadableByAll(path: string): boolean {
  if ((statSync(path).mode & 0o005) !== 0o005) return false;
  for (let dir = dirname(path); ; dir = dirname(dir)) {
    if ((statSync(dir).mode & 0o001) === 0) return false;
    if (dir === "/") return true;
  }
}
