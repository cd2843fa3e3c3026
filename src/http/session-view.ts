import { Type } from "@sinclair/typebox";
import { SESSION_STATUSES, type Session } from "../sessions/session.ts";
import { EnvVarsShown, Instant, INSTANT, oneOf, orNull, SessionId } from "./schemas.ts";

const RequestedDependency = Type.Object({
  name: Type.String({ examples: ["requests"] }),
  version: Type.Optional(Type.String({ examples: ["==2.32.3"] })),
});

const InstalledDependency = Type.Object(
  {
    name: Type.String({ examples: ["requests"] }),
    version: Type.String({ examples: ["2.32.3"] }),
    install_location: Type.String({ examples: ["/packages"] }),
    install_time: Type.String({ examples: [INSTANT] }),
    is_from_template: Type.Boolean(),
  },
  { $id: "InstalledDependency" },
);

export const SessionView = Type.Object(
  {
    id: SessionId,
    template_id: Type.String({ examples: ["python-basic"] }),
    status: oneOf(SESSION_STATUSES, "running"),
    resource_limit: Type.Object({
      cpu: Type.String({ examples: ["1"] }),
      memory: Type.String({ examples: ["512Mi"] }),
      disk: Type.String({ examples: ["1Gi"] }),
      max_processes: Type.Integer({ examples: [128] }),
    }),
    workspace_path: Type.String({ examples: ["/workspace"] }),
    language_runtime: Type.String({ examples: ["python"] }),
    runtime_type: Type.String({ examples: ["python3.11"] }),
    runtime_node: orNull(Type.String(), "worker-1"),
    container_id: orNull(Type.String()),
    pod_name: orNull(Type.String()),
    env_vars: EnvVarsShown,
    timeout: Type.Integer({ description: "Seconds without use after which the session ends.", examples: [300] }),
    expires_at: Instant,
    network: Type.Object({ allow: Type.Array(Type.String({ examples: ["pypi.org"] })) }),
    python_package_index_url: orNull(Type.String()),
    requested_dependencies: Type.Array(RequestedDependency),
    installed_dependencies: Type.Array(InstalledDependency),
    dependency_install_status: oneOf(["pending", "installing", "completed", "failed"], "completed"),
    dependency_install_error: orNull(Type.String()),
    dependency_install_started_at: orNull(Instant, INSTANT),
    dependency_install_completed_at: orNull(Instant, INSTANT),
    error_message: orNull(Type.String()),
    created_at: Instant,
    updated_at: Instant,
    completed_at: orNull(Instant),
    last_activity_at: Instant,
  },
  { $id: "Session" },
);

/** The session as callers see it (contract, Sessions). */
export function shapeSession(session: Session) {
  return {
    id: session.id,
    template_id: session.template_id,
    status: session.status,
    resource_limit: {
      cpu: session.cpu,
      memory: session.memory,
      disk: session.disk,
      max_processes: session.max_processes,
    },
    workspace_path: session.workspace_path,
    language_runtime: session.language_runtime,
    runtime_type: session.runtime_type,
    runtime_node: session.runtime_node,
    container_id: session.container_id,
    pod_name: session.pod_name,
    env_vars: session.env_vars,
    timeout: session.timeout,
    expires_at: session.expires_at,
    network: { allow: session.network },
    python_package_index_url: session.python_package_index_url,
    requested_dependencies: session.requested_dependencies,
    installed_dependencies: session.installed_dependencies,
    dependency_install_status: session.dependency_install_status,
    dependency_install_error: session.dependency_install_error,
    dependency_install_started_at: session.dependency_install_started_at,
    dependency_install_completed_at: session.dependency_install_completed_at,
    error_message: session.error_message,
    created_at: session.created_at,
    updated_at: session.updated_at,
    completed_at: session.completed_at,
    last_activity_at: session.last_activity_at,
  };
}
