import type { Execution } from "../../src/executions/execution.ts";
import type { ApiKey } from "../../src/keys/key.ts";
import type { Session } from "../../src/sessions/session.ts";
import type { Template } from "../../src/templates/template.ts";

/** Instants of the tests: `at(0)`, `at(60)` … in seconds after a fixed time. */
export function at(seconds: number): string {
  return new Date(Date.UTC(2026, 0, 31, 12) + seconds * 1000).toISOString();
}

export function templateRecord(fields: Partial<Template> = {}): Template {
  return {
    id: "t",
    name: "T",
    image_url: "image:latest",
    runtime_type: "python3.11",
    default_cpu_cores: 0.5,
    default_memory_mb: 512,
    default_disk_mb: 1024,
    default_timeout: 300,
    default_env_vars: {},
    warm_pool_size: 0,
    preload_modules: [],
    network: [],
    is_active: true,
    created_at: at(0),
    updated_at: at(0),
    ...fields,
  };
}

export function sessionRecord(fields: Partial<Session> = {}): Session {
  return {
    id: "s",
    tenant: "default",
    template_id: "t",
    status: "running",
    cpu: "1",
    memory: "512Mi",
    disk: "1Gi",
    max_processes: 128,
    workspace_path: "/workspace",
    language_runtime: "python3.11",
    runtime_type: "python3.11",
    runtime_node: null,
    container_id: null,
    pod_name: null,
    env_vars: {},
    timeout: 300,
    expires_at: at(300),
    python_package_index_url: null,
    network: [],
    preload_modules: [],
    requested_dependencies: [],
    installed_dependencies: [],
    dependency_install_status: "completed",
    dependency_install_error: null,
    dependency_install_started_at: null,
    dependency_install_completed_at: null,
    fail_on_dependency_error: true,
    install_timeout: 300,
    error_message: null,
    created_at: at(0),
    updated_at: at(0),
    completed_at: null,
    last_activity_at: at(0),
    image_url: "image:latest",
    ...fields,
  };
}

export function executionRecord(fields: Partial<Execution> = {}): Execution {
  return {
    id: "e",
    session_id: "s",
    tenant: "default",
    status: "pending",
    code: "print(1)",
    language: "python",
    timeout: 30,
    event: null,
    stdin: "",
    exit_code: null,
    reason: null,
    error_message: null,
    execution_time: null,
    stdout: "",
    stderr: "",
    stdout_bytes: 0,
    stderr_bytes: 0,
    stdout_truncated: false,
    stderr_truncated: false,
    return_value: null,
    artifacts: [],
    metrics: null,
    env_vars: {},
    retry_count: 0,
    created_at: at(0),
    started_at: null,
    completed_at: null,
    idempotency_key: null,
    last_seq: null,
    journaled: false,
    timing: {},
    ...fields,
  };
}

export function keyRecord(fields: Partial<ApiKey> = {}): ApiKey {
  return {
    name: "k",
    tenant: "k",
    hash: "0".repeat(64),
    hint: "sbx_1234…",
    created_at: at(0),
    last_used_at: null,
    revoked_at: null,
    ...fields,
  };
}
