import { AppError } from "../errors.ts";

const SHA256 = /^[0-9a-f]{64}$/;
const WORKSPACE = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;

/** The hash, which then leads nowhere else as a part of a path. Throws AppError `bad_request`. */
export function checkedHash(sha256: string): string {
  if (SHA256.test(sha256)) return sha256;
  throw new AppError("bad_request", "a blob is named by 64 hexadecimal digits");
}

/** The workspace's name, which then leads nowhere else as a part of a path. Throws AppError `bad_request`. */
export function checkedWorkspace(workspace: string): string {
  if (WORKSPACE.test(workspace)) return workspace;
  throw new AppError("bad_request", "not the name of a workspace");
}

/** Whether a text is one that names blobs. */
export function isHash(text: string): boolean {
  return SHA256.test(text);
}
