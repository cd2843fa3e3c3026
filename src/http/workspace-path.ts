import { AppError } from "../errors.ts";

/**
 * The workspace path in the percent-encoded rest of a URL path: decoded once as UTF-8, so `%2F` is a `/`. `invalid_path`
 * when it can't be decoded, is empty or absolute, or has a NUL, `.` or `..` in it.
 */
export function decodePath(encoded: string): string {
  let path: string;
  try {
    path = decodeURIComponent(encoded);
  } catch {
    throw new AppError("invalid_path", "the path is not valid percent-encoded UTF-8");
  }
  if (path === "") throw new AppError("invalid_path", "name a file");
  return checkPath(path);
}

/** The path itself. `invalid_path` when it is absolute, or has a NUL, `.` or `..` in it; empty is the workspace. */
export function checkPath(path: string): string {
  if (path.startsWith("/")) throw new AppError("invalid_path", "the path must be relative to the workspace");
  if (path.includes("\0")) throw new AppError("invalid_path", "the path has a NUL byte in it");
  if (path.split("/").some((step) => step === "." || step === ".."))
    throw new AppError("invalid_path", "the path may not have . or .. in it");
  return path;
}

/** The last step of a path, also of one as Windows writes it. */
export function baseName(path: string): string {
  return path.slice(Math.max(path.lastIndexOf("/"), path.lastIndexOf("\\")) + 1);
}
