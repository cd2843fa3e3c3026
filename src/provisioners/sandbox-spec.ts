import type { SandboxLimits, SandboxSpec } from "../executor/protocol.ts";
import { parseSize } from "../sessions/limits.ts";
import type { Session } from "../sessions/session.ts";

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

export function sandboxLimits(session: Session): SandboxLimits {
  return {
    cpuCores: Number(session.cpu),
    memoryBytes: parseSize("memory", session.memory, Number.MAX_SAFE_INTEGER),
    diskBytes: parseSize("disk", session.disk, Number.MAX_SAFE_INTEGER),
    maxProcesses: session.max_processes,
  };
}
