import { AppError } from "../../errors.ts";
import type { Layer } from "../protocol.ts";

const MAX_PACKAGES = 5000;
const MAX_TEXT = 200;
const NAME = /^[A-Za-z0-9._-]+$/;

/** What an executor in a Pod says of a layer, which the code beside it may have had a hand in. Throws `dependency_failed`. */
export function checkedLayer(said: unknown): Layer {
  const { name, path, packages } = (said ?? {}) as Record<string, unknown>;
  const isShort = (value: unknown): value is string => typeof value === "string" && value.length <= MAX_TEXT;
  if (
    !isShort(name) ||
    !NAME.test(name) ||
    !isShort(path) ||
    !Array.isArray(packages) ||
    packages.length > MAX_PACKAGES
  )
    throw new AppError("dependency_failed", "the executor does not say what it installed");
  const found = packages.map((one: unknown) => (one ?? {}) as Record<string, unknown>);
  return {
    name,
    path,
    packages: found.map((one) => ({
      name: String(one["name"]).slice(0, MAX_TEXT),
      version: String(one["version"]).slice(0, MAX_TEXT),
    })),
  };
}
