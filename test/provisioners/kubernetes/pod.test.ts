import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import type { V1Pod } from "@kubernetes/client-node";
import { executorToken, podName, podUid } from "../../../src/provisioners/kubernetes/names.ts";
import { podManifest, type PodRequest, type PodSettings } from "../../../src/provisioners/kubernetes/pod.ts";

const GIBIBYTE = 1024 ** 3;
const SETTINGS: PodSettings = {
  namespace: "sandbox-runtime",
  executorImage: "sandbox-control-plane:latest",
  runtimeClass: null,
  outputLimitBytes: 10_000_000,
  journalLimitBytes: 268_435_456,
  maxWaiting: 64,
  logLevel: "info",
};

const CREATED_AT = "2025-01-02T03:04:05.678Z";

function request(fields: Partial<PodRequest> = {}): PodRequest {
  const sessionId = "sess_20250102_0a1b2c3d";
  const name = podName(sessionId);
  const limits = { cpuCores: 1, memoryBytes: GIBIBYTE / 2, diskBytes: GIBIBYTE, maxProcesses: 128 };
  const token = executorToken("secret", name);
  const purpose = { sessionId, createdAt: CREATED_AT, attempt: 1 };
  return { purpose, name, image: "sandbox-template-python-basic:v1.0.0", limits, token, ...fields };
}

/** GOLDEN=write writes the files anew. */
async function golden(file: string, value: V1Pod): Promise<V1Pod> {
  const path = join(import.meta.dir, "golden", file);
  if (process.env["GOLDEN"] === "write") await Bun.write(path, `${JSON.stringify(value, null, 2)}\n`);
  return (await Bun.file(path).json()) as V1Pod;
}

describe("the manifest of a Pod", () => {
  test("of an image that has the executable", async () => {
    const pod = podManifest(request(), SETTINGS);
    expect(pod).toEqual(await golden("prepared.json", pod));
  });

  test("of any other image copies the executable first", async () => {
    const pod = podManifest(request({ image: "registry.example.com:5000/team/python:3.12" }), SETTINGS);
    expect(pod).toEqual(await golden("any-image.json", pod));
  });

  test("with a runtime class, small limits and a later attempt", async () => {
    const limits = { cpuCores: 0.05, memoryBytes: 16 * 1024 ** 2, diskBytes: 64 * 1024 ** 2, maxProcesses: 16 };
    const pod = podManifest(
      request({ limits, purpose: { sessionId: "sess_20250102_0a1b2c3d", createdAt: CREATED_AT, attempt: 2 } }),
      {
        ...SETTINGS,
        runtimeClass: "gvisor",
      },
    );
    expect(pod).toEqual(await golden("runtime-class.json", pod));
  });

  test("that is started ahead is nobody's", async () => {
    const purpose = { templateId: "python-basic", pool: "0a1b2c3d" };
    const pod = podManifest(request({ purpose, name: "warm-0a1b2c3d" }), SETTINGS);
    expect(pod).toEqual(await golden("warm.json", pod));
  });

  test("depends on its arguments alone", () => {
    expect(podManifest(request(), SETTINGS)).toEqual(podManifest(request(), SETTINGS));
  });

  test.each([
    ["sandbox-template-python-basic", true],
    ["sandbox-template-nodejs-basic:v2", true],
    ["ghcr.io/acme/sandbox-template-python-datascience@sha256:0123", true],
    ["sandbox-template-", false],
    ["my-sandbox-template-python-basic:v1", false],
    ["sandbox-template-x/python:3.12", false],
  ])("%s has the executable: %p", (image, isPrepared) => {
    expect(podManifest(request({ image }), SETTINGS).spec?.initContainers === undefined).toBe(isPrepared);
  });
});

describe("the name of a Pod", () => {
  const LABEL = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;

  test.each([
    ["abc", "sandbox-abc"],
    ["a".repeat(55), `sandbox-${"a".repeat(55)}`],
    ["sess_20250102_0a1b2c3d", "session-sess-20250102-0a1b2c3d-3d089c581242c16f"],
  ])("%s: %s", (id, name) => expect(podName(id)).toBe(name));

  test.each(["a_", "A", "a.b", "9-", "a".repeat(64), "a_".repeat(32), "Z._-"])("%s becomes a label", (id) => {
    expect(podName(id)).toMatch(LABEL);
  });

  test("of one session is never that of another", () => {
    const ids = [
      "a-b",
      "a_b",
      "a.b",
      "A-b",
      "A_B",
      "a--b",
      "a-b-",
      podName("a_b"),
      podName("a_b").slice("session-".length),
    ];
    expect(new Set(ids.map(podName)).size).toBe(ids.length);
  });
});

describe("the token of a Pod", () => {
  test("differs by Pod and by secret", () => {
    const tokens = [executorToken("s", "a"), executorToken("s", "b"), executorToken("t", "a")];
    expect(new Set(tokens).size).toBe(3);
    expect(tokens.every((token) => /^[0-9a-f]{64}$/.test(token))).toBe(true);
  });
});

test("the user of a Pod is never one of the system's", () => {
  const uids = ["a", "b", "c"].map(podUid);
  expect(new Set(uids).size).toBe(3);
  expect(uids.every((uid) => uid >= 1_000_000 && uid < 2 ** 31)).toBe(true);
});
