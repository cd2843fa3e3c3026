import { describe, expect, test } from "bun:test";
import { dirname, join } from "node:path";
import { eventually, kubectl, KUBECTL, NAMESPACES, SYSTEM } from "../cluster.ts";
import { guideBlock, guideBlocks } from "../guide.ts";

const ROOT = join(import.meta.dir, "../../..");

/** Blocks that are one kind of cluster's own: how it is made, and how images get into it. */
const OF_ONE_CLUSTER = /^(minikube|kind|curl -sfL|docker build|for image in)/;
const SESSION = "5. A session";
const UNINSTALLING = "Uninstalling";
/** Its commands for the bucket have aliases that only the operator knows; test/stores runs them. */
const BACKUP = "Backup and restore";

/** Runs commands of the guide as a person would, in a clone of the repository. What they leave in the background is ended. */
async function runInShell(script: string): Promise<{ code: number; said: string }> {
  const whole = `trap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n${script}`;
  const child = Bun.spawn(["bash", "-euo", "pipefail", "-c", whole], {
    cwd: ROOT,
    env: { ...process.env, PATH: `${dirname(KUBECTL)}:${process.env["PATH"] ?? ""}` },
    stdout: "pipe",
    stderr: "pipe",
  });
  const [out, err] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  return { code: await child.exited, said: out + err };
}

async function run(script: string): Promise<string> {
  const { code, said } = await runInShell(script);
  expect([script, code, code === 0 ? "" : said]).toEqual([script, 0, ""]);
  return said;
}

/** Installs the service by the guide, as a person would who types all of it. */
export function describeInstallation(): void {
  describe("the guide's commands", () => {
    test("install the service and do what they say, one after the other", async () => {
      for (const { kind, heading, text } of await guideBlocks()) {
        const isOwnTest = [SESSION, UNINSTALLING, BACKUP].includes(heading);
        if (kind === "sh" && !isOwnTest) await run(text);
      }
    }, 600_000);

    test("back the records up and restore them", async () => {
      const sql = (text: string): Promise<string> =>
        kubectl([
          "exec",
          "deployment/mariadb",
          ...SYSTEM,
          "--",
          "mariadb",
          "-usandbox",
          "-ppassword",
          "sandbox",
          "-Ne",
          text,
        ]);
      await sql("CREATE TABLE kept (word TEXT); INSERT INTO kept VALUES ('still here')");
      await run(await guideBlock(BACKUP, "backup-now"));
      await sql("DROP TABLE kept");
      await run(await guideBlock(BACKUP, "restore-now"));
      expect(await sql("SELECT word FROM kept; DROP TABLE kept")).toBe("still here\n");
    }, 240_000);

    test("make a session and run code in it", async () => {
      const port = await freePort();
      const script = (await guideBlock(SESSION, "port-forward")).replaceAll(
        /(?<=localhost:|sandbox-control-plane )8000/g,
        port,
      );
      const said = await run(script);
      expect(said).toContain('data: {"text":"0\\n');
      expect(said).toContain("event: end\n");
      expect(said).toMatch(/session-sess-\S+ +1\/1 +Running/);
    }, 120_000);

    test("show MinIO's console", async () => {
      const port = await freePort();
      const script = (await guideBlock("Running it", "service/minio")).trim().replace("9001:", `${port}:`);
      const ask = `until curl -sf localhost:${port} -o /dev/null; do sleep 0.2; done`;
      await run(`${script} >/dev/null &\ntimeout 20 bash -c '${ask}'`);
    }, 60_000);

    test("show what the autoscaler sees", async () => {
      const script = await guideBlock("Running it", "top pods");
      const said = await eventually("figures", 120, async () => {
        const { code, said } = await runInShell(script);
        return code !== 0 || said.includes("<unknown>") ? null : said;
      });
      expect(said).toMatch(/cpu: \d+%\/70%, memory: \d+%\/80%/);
      expect(said).toMatch(/sandbox-control-plane-\S+ +\d+m +\d+Mi/);
    }, 150_000);

    test("are all run here, but for those that only one kind of cluster takes", async () => {
      const rest = (await guideBlocks()).filter(({ kind, text }) => kind === "console" && !OF_ONE_CLUSTER.test(text));
      expect(rest.map(({ heading, text }) => [heading, text.split("\n")[0]])).toEqual([
        ["Running it", "kubectl -n sandbox-system get hpa sandbox-control-plane"],
        ["Running it", "kubectl -n sandbox-system port-forward service/minio 9001:9001"],
      ]);
    });
  });
}

/** Removes it by the guide. */
export function describeUninstallation(): void {
  test("the guide's last command removes everything", async () => {
    await run(await guideBlock(UNINSTALLING, "kubectl delete"));
    expect(await kubectl(["get", "namespace", ...NAMESPACES, "--ignore-not-found", "-o", "name"])).toBe("");
    expect(await kubectl(["get", "pods", ...SYSTEM, "-o", "name"])).toBe("");
  }, 180_000);
}

async function freePort(): Promise<string> {
  const server = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: () => new Response() });
  const port = String(server.port);
  await server.stop(true);
  return port;
}
