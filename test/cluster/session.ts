import type { KubernetesProvisionerOptions } from "../../src/provisioners/kubernetes/kubernetes-provisioner.ts";
import type { Session } from "../../src/sessions/session.ts";
import { sessionRecord } from "../contracts/records.ts";

export const IMAGE = process.env["SESSION_IMAGE"] ?? "sandbox-template-python-basic:latest";

export const OPTIONS: KubernetesProvisionerOptions = {
  executorImage: "sandbox-control-plane:latest",
  runtimeClass: null,
  outputLimitBytes: 10_000_000,
  journalLimitBytes: 268_435_456,
  maxWaiting: 64,
  logLevel: "info",
  tokenSecret: "a secret of this test alone, long enough",
  maxRunning: 8,
  startTimeoutMs: 60_000,
  restore: () => Promise.resolve(),
  privateRanges: [],
  indexUrl: "https://pypi.org/simple",
  shelf: { open: () => Promise.resolve(null), keep: async (_keys, archive) => archive.cancel() },
};

let count = 0;

/** A session that is being created, of an id of its own. */
export function newSession(fields: Partial<Session> = {}): Session {
  const at = new Date().toISOString();
  return sessionRecord({
    id: `sess_test_${Date.now()}_${++count}`,
    template_id: "python-basic",
    status: "creating",
    ...{ cpu: "0.5", memory: "256Mi", disk: "256Mi", max_processes: 64 },
    env_vars: { GREETING: "hello" },
    ...{ created_at: at, updated_at: at, last_activity_at: at, expires_at: at },
    image_url: IMAGE,
    ...fields,
  });
}
