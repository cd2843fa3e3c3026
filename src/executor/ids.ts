import { AppError } from "../errors.ts";

const ID = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;

/** Begins the names of sandboxes for one program; no id of a session starts with a dot. */
export const ONCE = ".once-";

/** An id that is safe as a file name. Throws `bad_request` otherwise. */
export function checkId(id: string): string {
  if (!ID.test(id)) throw new AppError("bad_request", "an id is 1 to 128 of [A-Za-z0-9._-] and starts alphanumeric");
  return id;
}
