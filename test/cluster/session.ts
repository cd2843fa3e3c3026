import type { KubernetesProvisionerOptions } from "../../src/provisioners/kubernetes/kubernetes-provisioner.ts";
import type { Session } from "../../src/sessions/session.ts";

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
  return {
    id: `sess_test_${Date.now()}_${++count}`,
    tenant: "default",
    template_id: "python-basic",
    status: "creating",
    cpu: "0.5",
    memory: "256Mi",
    disk: "256Mi",
    max_processes: 64,
    workspace_path: "/workspace",
    language_runtime: "python3.11",
    runtime_type: "python3.11",
    runtime_node: null,
    container_id: null,
    pod_name: null,
    env_vars: { GREETING: "hello" },
    timeout: 300,
    expires_at: at,
    python_package_index_url: null,
    requested_dependencies: [],
    installed_dependencies: [],
    dependency_install_status: "completed",
    dependency_install_error: null,
    dependency_install_started_at: null,
    dependency_install_completed_at: null,
    fail_on_dependency_error: true,
    install_timeout: 300,
    error_message: null,
    created_at: at,
    updated_at: at,
    completed_at: null,
    last_activity_at: at,
    network: [],
    preload_modules: [],
    image_url: IMAGE,
    ...fields,
  };
}
