import { describe, expect, test } from "bun:test";
import { conformanceTarget } from "./target.ts";

const target = conformanceTarget();
const INSTALL_MS = 120_000;

type Body = Record<string, unknown> & { id: string };

async function open(fields: Record<string, unknown> = {}): Promise<Body> {
  const answer = await target().post("/sessions?wait=60", { template_id: "python-basic", timeout: 3600, ...fields });
  expect(answer.status).toBe(201);
  return answer.body as Body;
}

function run(session: string, code: string): Promise<Record<string, unknown>> {
  return target().run(session, code);
}

async function remove(...sessions: Body[]): Promise<void> {
  for (const { id } of sessions) await target().call("DELETE", `/sessions/${id}`);
}

describe("dependencies", () => {
  test(
    "of a session are there when it runs, and more can be installed",
    async () => {
      const session = await open({ dependencies: [{ name: "six", version: "1.16.0" }] });
      expect(session).toMatchObject({
        status: "running",
        dependency_install_status: "completed",
        dependency_install_error: null,
        requested_dependencies: [{ name: "six", version: "1.16.0" }],
        installed_dependencies: [{ name: "six", version: "1.16.0", is_from_template: false }],
      });
      const code = "import six\ndef handler(event): return six.__version__";
      expect(await run(session.id, code)).toMatchObject({ status: "completed", return_value: "1.16.0" });
      const path = `/sessions/${session.id}/dependencies/install`;
      const more = await target().post(path, { dependencies: [{ name: "Six", version: "1.17.0" }, { name: "idna" }] });
      expect(more.status).toBe(200);
      expect(more.body).toMatchObject({
        requested_dependencies: [{ name: "Six", version: "1.17.0" }, { name: "idna" }],
        installed_dependencies: [{ name: "idna" }, { name: "six", version: "1.17.0" }],
      });
      expect(await run(session.id, code)).toMatchObject({ return_value: "1.17.0" });
      const failed = await target().post(path, { dependencies: [{ name: "six", version: "99.0" }] });
      expect(failed.status).toBe(400);
      expect(failed.body).toMatchObject({ code: "dependency_failed", message: expect.stringContaining("99.0") });
      expect(await run(session.id, "import idna\n" + code)).toMatchObject({ return_value: "1.17.0" });
      await remove(session);
    },
    INSTALL_MS,
  );

  test(
    "that can't be installed fail the session, unless it does not mind",
    async () => {
      const dependencies = [{ name: "six", version: "99.0" }];
      const failed = await open({ dependencies });
      expect(failed).toMatchObject({ status: "failed", dependency_install_status: "failed" });
      expect(failed["dependency_install_error"]).toContain("99.0");
      const running = await open({ dependencies, fail_on_dependency_error: false });
      expect(running).toMatchObject({
        status: "running",
        dependency_install_status: "failed",
        installed_dependencies: [],
      });
      expect(await run(running.id, "print(1)")).toMatchObject({ status: "completed" });
      const path = `/sessions/${running.id}/dependencies/install`;
      const later = await target().post(path, { dependencies: [{ name: "six" }] });
      expect(later.body).toMatchObject({ dependency_install_status: "completed" });
      await remove(failed, running);
    },
    INSTALL_MS,
  );

  test(
    "of an equal set are ready at once, and one installation of a session runs at a time",
    async () => {
      const firstMs = performance.now();
      const first = await open({ dependencies: [{ name: "six", version: "1.15.0" }] });
      const startedMs = performance.now();
      const second = await open({ dependencies: [{ name: "six", version: "1.15.0" }] });
      // A sandbox may be a Pod, and the machine busy.
      expect(performance.now() - startedMs).toBeLessThan(Math.max(2000, (startedMs - firstMs) / 2));
      expect(second["dependency_install_status"]).toBe("completed");
      const path = `/sessions/${first.id}/dependencies/install`;
      const answers = await Promise.all([
        target().post(path, { dependencies: [{ name: "idna", version: "3.6" }] }),
        target().post(path, { dependencies: [{ name: "idna", version: "3.7" }] }),
      ]);
      expect(answers.map(({ status }) => status).toSorted((a, b) => a - b)).toEqual([200, 409]);
      await remove(first, second);
    },
    INSTALL_MS,
  );

  test.each([
    { name: "-rfile" },
    { name: "six --index-url http://x" },
    { name: "./x" },
    { name: "six", version: "1.0 --pre" },
    { name: "six", version: "@ http://x/y.whl" },
    { name: "six\n-e ." },
    { name: "a".repeat(101) },
  ])("refuse what an installer could take as an option: %j", async (dependency) => {
    const answer = await target().post("/sessions", { template_id: "python-basic", dependencies: [dependency] });
    expect(answer.status).toBe(422);
  });
});

describe("network", () => {
  test("rules are checked, shown, and every attempt is in the audit log", async () => {
    const session = await open({ network: { allow: ["example.com", "*.example.org:443"] } });
    expect(session["network"]).toEqual({ allow: ["example.com", "*.example.org:443"] });
    const code =
      "import urllib.request, urllib.error\ntry: urllib.request.urlopen('http://elsewhere.test/')\nexcept urllib.error.HTTPError as e: print(e.code)";
    expect(await run(session.id, code)).toMatchObject({ stdout: "403\n" });
    const audit = await target().get(`/sessions/${session.id}/audit`);
    expect(audit.status).toBe(200);
    expect(audit.body).toMatchObject({ total: 1, items: [{ host: "elsewhere.test", port: 80, allowed: false }] });
    await remove(session);
    expect((await target().get(`/sessions/${session.id}/audit`)).status).toBe(404);
  });

  test("rules that can't be read are refused", async () => {
    const fields = { template_id: "python-basic", network: { allow: ["http://example.com"] } };
    const answer = await target().post("/sessions", fields);
    expect(answer.status).toBe(400);
  });

  test("no rules are no way out", async () => {
    const session = await open();
    expect(session["network"]).toEqual({ allow: [] });
    const audit = await target().get(`/sessions/${session.id}/audit`);
    expect(audit.body).toEqual({ items: [], total: 0 });
    await remove(session);
  });
});
