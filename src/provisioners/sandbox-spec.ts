import type { SandboxLimits, SandboxSpec } from "../executor/protocol.ts";
import { parseSize } from "../sessions/limits.ts";
import type { Session } from "../sessions/session.ts";
import type { Template } from "../templates/template.ts";

/** What an executor is asked to make for a session. */
export function sandboxSpec(session: Session, maxRunning: number): SandboxSpec {
  return {
    imageUrl: session.image_url,
    runtimeType: session.runtime_type,
    limits: sandboxLimits(session),
    env: session.env_vars,
    ...(session.network.length > 0 ? { network: { allow: session.network } } : {}),
    maxRunning,
    preload: session.preload_modules,
  };
}

/** A session's limits in the executor's units. */
export function sandboxLimits(session: Session): SandboxLimits {
  return {
    cpuCores: Number(session.cpu),
    memoryBytes: parseSize("memory", session.memory, Number.MAX_SAFE_INTEGER),
    diskBytes: parseSize("disk", session.disk, Number.MAX_SAFE_INTEGER),
    maxProcesses: session.max_processes,
  };
}

/** What is started ahead for the sessions of a template; their variables come later. */
export function templateSpec(
  template: Template,
  { maxRunning, maxProcesses }: { maxRunning: number; maxProcesses: number },
): SandboxSpec {
  return {
    imageUrl: template.image_url,
    runtimeType: template.runtime_type,
    limits: {
      cpuCores: template.default_cpu_cores,
      memoryBytes: template.default_memory_mb * 1024 ** 2,
      diskBytes: template.default_disk_mb * 1024 ** 2,
      maxProcesses,
    },
    env: {},
    maxRunning,
    preload: template.preload_modules,
    network: { allow: template.network },
  };
}
