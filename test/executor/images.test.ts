import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import type { AppError } from "../../src/errors.ts";
import { clearRemovedImages, importImage, listImages, removeImage, resolveImage } from "../../src/executor/images.ts";
import { IS_ROOT, TestJail } from "./jail/fixture.ts";

let dir: string;
let dataDir: string;
beforeAll(() => {
  dir = mkdtempSync("/tmp/sandbox-images-");
  dataDir = join(dir, "data");
});
afterAll(() => rmSync(dir, { recursive: true }));

function codeOf(act: () => unknown): string {
  try {
    act();
    return "";
  } catch (error) {
    return (error as AppError).code;
  }
}

async function tar(root: string, ...more: string[]): Promise<string> {
  const file = join(dir, `${crypto.randomUUID()}.tar.gz`);
  const run = Bun.spawn(["tar", "-czPf", file, "-C", root, ".", ...more], { stderr: "inherit" });
  expect(await run.exited).toBe(0);
  return file;
}

/** A small root file system: busybox is not everywhere, so a shell with the libraries that it needs. */
async function smallRoot(): Promise<string> {
  const root = mkdtempSync(join(dir, "root-"));
  for (const path of ["bin", "etc", "usr", "lib", "lib64"]) mkdirSync(join(root, path));
  const said = await new Response(Bun.spawn(["ldd", "/bin/bash", "/bin/cat"], { stdout: "pipe" }).stdout).text();
  const libraries = new Set([...said.matchAll(/(\/\S+) \(0x/g)].map((match) => match[1] ?? ""));
  for (const path of ["/bin/bash", "/bin/cat", ...libraries]) {
    mkdirSync(join(root, path, ".."), { recursive: true });
    await Bun.spawn(["cp", "-L", path, join(root, path)]).exited;
  }
  writeFileSync(join(root, "etc/made-by"), "the image\n");
  return root;
}

describe("names", () => {
  test.each([
    "sandbox-template-python-basic",
    "sandbox-template-python-basic:v1.2",
    "registry.example.com:5000/team/sandbox-template-nodejs-basic:latest",
  ])("%s is the host's own", (name) => {
    expect(resolveImage(dataDir, name)).toBeNull();
  });

  test.each(["python:3.11", "sandbox-template-python", "", "../../etc", "/etc", "a\0b", "x".repeat(600), "a/../../b"])(
    "%p is unknown",
    (name) => {
      expect(codeOf(() => resolveImage(dataDir, name))).toBe("image_unknown");
    },
  );
});

describe("importing", () => {
  test("takes a root file system, lists it, replaces it and removes it", async () => {
    const root = mkdtempSync(join(dir, "root-"));
    mkdirSync(join(root, "usr/bin"), { recursive: true });
    await importImage(dataDir, "team/tool:1", await tar(root));
    const first = resolveImage(dataDir, "team/tool:1") ?? "";
    expect(existsSync(join(first, "usr/bin"))).toBe(true);
    expect(existsSync(join(first, ".sandbox"))).toBe(true);
    expect(listImages(dataDir)).toEqual(["team/tool:1"]);
    writeFileSync(join(root, "usr/second"), "");
    await importImage(dataDir, "team/tool:1", await tar(root));
    expect(existsSync(join(resolveImage(dataDir, "team/tool:1") ?? "", "usr/second"))).toBe(true);
    expect(removeImage(dataDir, "team/tool:1")).toBe(true);
    expect(removeImage(dataDir, "team/tool:1")).toBe(false);
    expect(listImages(dataDir)).toEqual([]);
    expect(codeOf(() => resolveImage(dataDir, "team/tool:1"))).toBe("image_unknown");
    await clearRemovedImages(dataDir);
    expect(readdirSync(join(dataDir, "images"))).toEqual([]);
  });

  test("writes nothing outside, gives no rights, and leads no mount elsewhere", async () => {
    const root = mkdtempSync(join(dir, "root-"));
    mkdirSync(join(root, "usr"));
    writeFileSync(join(root, "usr/su"), "x");
    chmodSync(join(root, "usr/su"), 0o6755);
    chmodSync(root, 0o700);
    symlinkSync("/etc", join(root, "tmp"));
    symlinkSync(join(dir, "outside"), join(root, "proc"));
    mkdirSync(join(root, "dev"));
    if (IS_ROOT) {
      await Bun.spawn(["mknod", join(root, "usr/null"), "c", "1", "3"]).exited;
      await Bun.spawn(["mkfifo", join(root, "usr/fifo")]).exited;
    }
    const link = join(root, "usr/link");
    symlinkSync(dir, link);
    writeFileSync(join(dir, "evil"), "evil");
    const through = ["--transform", "s,^evil,usr/link/escaped,", "-C", dir, "evil"];
    await importImage(dataDir, "odd", await tar(root, "--transform", "s,^evil,/escaped,", "-C", dir, "evil"));
    const rootfs = resolveImage(dataDir, "odd") ?? "";
    expect(lstatSync(rootfs).mode & 0o777).toBe(0o755);
    expect(lstatSync(join(rootfs, "usr/su")).mode & 0o7000).toBe(0);
    for (const mount of ["tmp", "proc", "dev", "workspace"])
      expect(lstatSync(join(rootfs, mount)).isDirectory()).toBe(true);
    expect(readdirSync(join(rootfs, "usr")).toSorted()).toEqual(["link", "su"]);
    expect(existsSync(join(dir, "outside"))).toBe(false);
    expect(existsSync(join(rootfs, "escaped"))).toBe(true);
    await importImage(dataDir, "through", await tar(root, ...through)).catch(() => {});
    removeImage(dataDir, "through");
    expect([join(dir, "escaped"), join(dataDir, "escaped"), "/tmp/escaped", "/escaped"].filter(existsSync)).toEqual([]);
    removeImage(dataDir, "odd");
  });

  test("refuses what is no archive, no root file system, not there, or badly named, and leaves nothing", async () => {
    writeFileSync(join(dir, "text.tar"), "no archive");
    const empty = mkdtempSync(join(dir, "root-"));
    writeFileSync(join(empty, "manifest.json"), "[]");
    for (const [name, file] of [
      ["x", join(dir, "text.tar")],
      ["x", await tar(empty)],
      ["x", join(dir, "nowhere.tar")],
      ["../x", await tar(empty)],
      ["sandbox-template-python-basic:v1", await tar(empty)],
      ["x", await tar(empty, "--transform", "s,^text.tar,../../../../escaped,", "-C", dir, "text.tar")],
    ] as const) {
      const error: unknown = await importImage(dataDir, name, file).catch((one: unknown) => one);
      expect((error as AppError).code).toBe("bad_request");
    }
    await clearRemovedImages(dataDir);
    expect(readdirSync(join(dataDir, "images"))).toEqual([]);
  });
});

test("a sandbox of an imported image sees its files and nothing of the host's, also after it was removed", async () => {
  const jail = await TestJail.open();
  try {
    await importImage(jail.dataDir, "small", await tar(await smallRoot()));
    const sandbox = await jail.start("one", {}, "small");
    removeImage(jail.dataDir, "small");
    const said = await sandbox.sh(
      "cat /etc/made-by; cat /etc/hostname /usr/bin/env 2>/dev/null; echo x > /workspace/x; echo x 2>/dev/null > /x; echo $?",
    );
    expect(said.stdout).toBe("the image\n1\n");
    await sandbox.end();
  } finally {
    await jail.close();
  }
});
