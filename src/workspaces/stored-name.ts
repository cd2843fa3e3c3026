import type { Session } from "../sessions/session.ts";

/** Where the object store has the versions of a session's workspace: another session that gets the id later has others. */
export function storedName({ id, created_at }: Pick<Session, "id" | "created_at">): string {
  return `${id}.${Date.parse(created_at).toString(36)}`;
}

/** The id of the session that a stored workspace was made for. */
export function sessionIdOf(storedWorkspace: string): string {
  return storedWorkspace.slice(0, storedWorkspace.lastIndexOf("."));
}
