import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { chownSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { Uids } from "../../../src/executor/jail/uids.ts";
import { IS_ROOT } from "./fixture.ts";

const BASE = 700_000;
const SLOTS = 4096;

let dir: string;
beforeEach(() => {
  dir = mkdtempSync("/tmp/sandbox-uids-");
});
afterEach(() => rmSync(dir, { recursive: true }));

function workspaces(name: string): string {
  const path = join(dir, name, "workspaces");
  mkdirSync(path, { recursive: true });
  return path;
}

function open(name: string): Uids {
  return new Uids(BASE, workspaces(name), join(dir, "registry"));
}

describe("users of sandboxes", () => {
  test("are different, and given again as late as possible", () => {
    const uids = open("a");
    const first = uids.claim(null);
    const second = uids.claim(null);
    expect(second).toBe(first + 1);
    uids.release(first);
    uids.forget(first);
    expect(uids.claim(null)).toBe(second + 1);
  });

  test("come back to a workspace that they own, unless someone has them", () => {
    const uids = open("a");
    const uid = uids.claim(null);
    uids.release(uid);
    expect(uids.claim(uid)).toBe(uid);
    expect(uids.claim(uid)).not.toBe(uid);
    expect(uids.claim(0)).toBeGreaterThanOrEqual(BASE);
  });

  test("are never those of another executor's range, at once or later", () => {
    const [one, other] = [open("a"), open("b")];
    const range = (uids: Uids) => Math.floor((uids.claim(null) - BASE) / SLOTS);
    expect(range(one)).not.toBe(range(other));
    expect(range(open("a"))).toBe(range(one));
  });

  test("are given back with the range, and by an executor whose data directory is gone", () => {
    const one = open("a");
    one.close();
    one.close();
    expect(readdirSync(join(dir, "registry"))).toEqual([]);
    for (let i = 0; i < 64; i++) open(`x${i}`);
    expect(() => open("b")).toThrow(/ranges of users are taken/);
    rmSync(join(dir, "x7"), { recursive: true });
    expect(open("b").claim(null)).toBeGreaterThanOrEqual(BASE);
  });

  test("run out with a clear word", () => {
    const uids = open("a");
    for (let i = 0; i < SLOTS; i++) uids.claim(null);
    expect(() => uids.claim(null)).toThrow(/users of sandboxes are taken/);
  });

  test.skipIf(!IS_ROOT)("stay with a workspace at rest also after a restart, while others are free", () => {
    const uid = open("a").claim(null);
    const workspace = join(workspaces("a"), "s1");
    mkdirSync(workspace);
    chownSync(workspace, uid, uid);
    const next = open("a");
    expect(Array.from({ length: SLOTS - 1 }, () => next.claim(null))).not.toContain(uid);
    expect(next.claim(null)).toBe(uid);
  });
});
