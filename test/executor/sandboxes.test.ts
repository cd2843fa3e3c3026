import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { AppError } from "../../src/errors.ts";
import { collect, readUntil, SPEC, TestExecutor } from "./fixture.ts";

let executor: TestExecutor;
beforeAll(async () => {
  executor = await TestExecutor.start();
});
afterAll(() => executor.close());

/** Host pids whose command line starts so. */
function processes(command: string): number[] {
  return readdirSync("/proc")
    .map(Number)
    .filter((pid) => pid > 0 && commandLine(pid).startsWith(command));
}

function commandLine(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "latin1").replaceAll("\0", " ");
  } catch {
    return "";
  }
}

/** Host pid of the init above a process with this command line, which may be about to start. */
async function initAbove(command: string): Promise<number> {
  while (processes(command).length === 0) await Bun.sleep(5);
  let pid = processes(command)[0] ?? 1;
  while (pid > 1 && !commandLine(pid).startsWith("/.sandbox/init")) pid = parentOf(pid);
  if (pid <= 1) throw new Error(`there is no init above ${command}`);
  return pid;
}

function parentOf(pid: number): number {
  return Number(/PPid:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]);
}

const codeOf = (error: unknown): string => (error as AppError).code;

describe("sandboxes", () => {
  test("the same id again is the same sandbox", async () => {
    const [one, two] = await Promise.all([1, 2].map(() => executor.client.createSandbox("twice", SPEC)));
    expect(one).toEqual(two as NonNullable<typeof two>);
    expect(one).toMatchObject({ id: "twice", status: "running", workspacePath: "/workspace" });
    expect(Object.keys(one?.timing ?? {})).toEqual(["spawn", "init"]);
    const all = await executor.client.listSandboxes();
    expect(all.filter((sandbox) => sandbox.id === "twice").length).toBe(1);
  });

  test("ids that could be paths are refused", async () => {
    for (const id of ["..", ".hidden", "a%2Fb", "%2e%2e", "a b"]) {
      const made = executor.client.createSandbox(id, SPEC);
      expect(["bad_request", "not_found"]).toContain(await made.then(() => "made", codeOf));
    }
  });

  test("deleting ends executions and processes, and is idempotent", async () => {
    const id = await executor.sandbox();
    const execution = executor.newId();
    const code = "setsid sleep 81.25 & sleep 81.25 & until [ $(pgrep -cf '^sleep 81') = 2 ]; do :; done; echo up; wait";
    const running = await executor.start(execution, id, code, { language: "shell" });
    const [mine, whole] = running.tee();
    await readUntil(mine.getReader(), "stdout");
    expect(processes("sleep 81.25").length).toBe(2);
    await executor.client.deleteSandbox(id, { deleteWorkspace: false });
    expect(processes("sleep 81.25")).toEqual([]);
    expect((await collect(whole)).outcome).toMatchObject({ status: "cancelled", reason: "session_ended" });
    await executor.client.deleteSandbox(id, { deleteWorkspace: false });
    expect(await executor.start(executor.newId(), id, "1").catch(codeOf)).toBe("session_not_found");
    expect((await collect(await executor.client.journal(execution, 0))).stdout).toBe("up\n");
  });

  test("the workspace outlives its sandbox until it is deleted too", async () => {
    const id = await executor.sandbox();
    await executor.shell(id, "echo kept > file");
    await executor.client.deleteSandbox(id, { deleteWorkspace: false });
    await executor.client.createSandbox(id, SPEC);
    expect((await executor.shell(id, "cat file")).stdout).toBe("kept\n");
    await executor.client.deleteSandbox(id, { deleteWorkspace: true });
    expect(existsSync(`${executor.dataDir}/workspaces/${id}`)).toBe(false);
    expect(existsSync(`${executor.dataDir}/journals/${id}`)).toBe(false);
  });

  test("one whose init dies is lost: what ran is crashed, and it can be made again", async () => {
    const id = await executor.sandbox();
    const running = await executor.start(executor.newId(), id, "echo up; sleep 82.25", { language: "shell" });
    const waiting = await executor.start(executor.newId(), await executor.sandbox(), "echo other; sleep 0.2", {
      language: "shell",
    });
    const [mine, whole] = running.tee();
    await readUntil(mine.getReader(), "stdout");
    process.kill(await initAbove("sleep 82.25"), "SIGKILL");
    const ran = await collect(whole);
    expect(ran.stdout).toBe("up\n");
    expect(ran.outcome).toMatchObject({ status: "crashed", reason: "sandbox_lost", exit_code: null });
    expect((await executor.client.listSandboxes()).find((one) => one.id === id)?.status).toBe("lost");
    expect(await executor.start(executor.newId(), id, "true").catch(codeOf)).toBe("session_not_found");
    expect((await executor.client.createSandbox(id, SPEC)).status).toBe("running");
    expect((await executor.shell(id, "echo again")).stdout).toBe("again\n");
    expect((await collect(waiting)).stdout).toBe("other\n");
  });

  test("one whose init stops doing its work is ended for it, and its executions with their own cause", async () => {
    const id = await executor.sandbox();
    const execution = executor.newId();
    const running = await executor.start(execution, id, "echo up; sleep 83.25; true", { language: "shell" });
    const [mine, whole] = running.tee();
    await readUntil(mine.getReader(), "stdout");
    process.kill(await initAbove("sleep 83.25"), "SIGSTOP");
    await executor.client.cancel(execution);
    expect((await collect(whole)).outcome).toMatchObject({ status: "cancelled", reason: "cancelled", exit_code: null });
    while (processes("sleep 83.25").length > 0) await Bun.sleep(5);
    expect((await executor.client.listSandboxes()).find((one) => one.id === id)?.status).toBe("lost");
  }, 10_000);

  test("an unknown image leaves nothing behind", async () => {
    const made = executor.client.createSandbox("imageless", { ...SPEC, imageUrl: "no/such:image" });
    expect(await made.catch(codeOf)).toBe("image_unknown");
    expect((await executor.client.listSandboxes()).map((one) => one.id)).not.toContain("imageless");
  });

  test("files written from outside are no artifact of the next execution", async () => {
    const id = await executor.sandbox();
    await executor.client.writeFile(id, "in/data.csv", new Blob(["a,b\n"]).stream(), 1000);
    const ran = await executor.shell(id, "cat in/data.csv; echo x > out.txt");
    expect(ran.stdout).toBe("a,b\n");
    expect(ran.outcome.artifacts.map((one) => one.path)).toEqual(["out.txt"]);
    const entries = await executor.client.listFiles(id, "", { recursive: true, limit: 100 });
    expect(entries.map((entry) => entry.path).toSorted()).toEqual(["in", "in/data.csv", "out.txt"]);
    const read = await executor.client.readFile(id, "out.txt", "GET", new Headers());
    expect(await new Response(read.body).text()).toBe("x\n");
    expect(await executor.client.readFile(id, "../x", "GET", new Headers()).catch(codeOf)).not.toBe("internal");
    await executor.client.moveFile(id, "out.txt", "moved.txt");
    await executor.client.makeDirectory(id, "new/dir");
    await executor.client.removeFile(id, "in");
    expect((await executor.shell(id, "ls")).stdout).toBe("moved.txt\nnew\n");
    expect(await executor.client.writeFile(id, "big", new Blob(["x".repeat(2000)]).stream(), 1000).catch(codeOf)).toBe(
      "body_too_large",
    );
    expect(await executor.client.listFiles("nowhere", "", { recursive: false, limit: 10 }).catch(codeOf)).toBe(
      "session_not_found",
    );
  });
});
