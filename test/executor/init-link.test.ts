import { expect, test } from "bun:test";
import { InitLink } from "../../src/executor/init-link.ts";
import type { JailedInit } from "../../src/executor/jail/jail.ts";
import { JAIL_PATHS } from "../../src/executor/languages/launch.ts";
import { createLog } from "../../src/log.ts";

test("an init that dies with input to read is gone, and nothing else comes of it", async () => {
  const child = Bun.spawn(["sleep", "60"], { stdin: "pipe", stdout: "pipe", stderr: "pipe" });
  const jailed: JailedInit = {
    pid: child.pid,
    stdin: child.stdin,
    stdout: child.stdout,
    stderr: child.stderr,
    exited: child.exited,
    inside: JAIL_PATHS,
    workspaceDir: "/tmp",
    incomingDir: "/tmp",
    owner: undefined,
    kill: () => child.kill("SIGKILL"),
    memoryKills: () => 0,
    processRefusals: () => 0,
    dispose: () => Promise.resolve(),
    beginUpload: () => Promise.reject(new Error("not needed")),
  };
  const rejected: unknown[] = [];
  const note = (error: unknown): void => void rejected.push(error);
  process.on("unhandledRejection", note);
  try {
    let isGone = false;
    const log = createLog({ level: "error", format: "json", write: () => {} });
    const link = new InitLink(jailed, { frame: () => {}, gone: () => (isGone = true) }, log);
    for (let i = 0; i < 4; i++) link.send(new Uint8Array(1 << 20));
    await Bun.sleep(50);
    jailed.kill();
    await link.gone;
    link.send(new Uint8Array(1 << 20));
    await Bun.sleep(50);
    expect({ isGone, rejected }).toEqual({ isGone: true, rejected: [] });
  } finally {
    process.off("unhandledRejection", note);
  }
});
