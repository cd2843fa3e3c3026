import type { LayerRequest } from "../executor/protocol.ts";
import type { RequestedDependency, Session } from "./session.ts";

/** How long after its own time limit an installation that nobody ended is taken for lost. */
const LOST_MS = 60_000;

/** The set after more was asked for: by name (PEP 503, without extras), the last wins. */
export function mergeDependencies(
  before: readonly RequestedDependency[],
  added: readonly RequestedDependency[],
): RequestedDependency[] {
  const merged = new Map<string, RequestedDependency>();
  for (const one of [...before, ...added]) merged.set(projectName(one.name), one);
  return [...merged.values()];
}

/** What an installer is given: a version without an operator means exactly it. */
export function requirementLine({ name, version }: RequestedDependency): string {
  const text = version?.trim() ?? "";
  if (text === "") return name;
  return /^[=~!<>]/.test(text) ? `${name}${text}` : `${name}==${text}`;
}

/** The layer of the session's packages. */
export function layerRequest(
  session: Pick<Session, "requested_dependencies" | "python_package_index_url" | "image_url" | "install_timeout">,
): LayerRequest {
  return {
    requirements: session.requested_dependencies.map(requirementLine),
    indexUrl: session.python_package_index_url,
    imageUrl: session.image_url,
    timeoutMs: session.install_timeout * 1000,
  };
}

/** The layer of the packages that the session has, with the very versions, should it have to be built again. */
export function sameLayerRequest(
  session: Parameters<typeof layerRequest>[0] & Pick<Session, "installed_dependencies">,
): LayerRequest {
  return { ...layerRequest(session), exact: session.installed_dependencies.map(requirementLine) };
}

/** Whether an installation goes on, as the row says: one whose process died does not count for ever. */
export function isInstalling(session: Session, nowMs: number): boolean {
  if (session.dependency_install_status !== "installing") return false;
  const startedMs = Date.parse(session.dependency_install_started_at ?? session.created_at);
  return nowMs < startedMs + session.install_timeout * 1000 + LOST_MS;
}

function projectName(name: string): string {
  return name
    .replace(/\[.*$/, "")
    .toLowerCase()
    .replace(/[-_.]+/g, "-");
}
