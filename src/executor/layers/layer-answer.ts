import { AppError } from "../../errors.ts";
import type { InstalledPackage, Layer } from "../protocol.ts";

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
  return { name, path, packages: packagesOf(packages) };
}

/** Packages as somebody lists them who is not to be trusted with the length of a text. */
export function packagesOf(said: readonly unknown[]): InstalledPackage[] {
  const found = said.map((one) => (one ?? {}) as Record<string, unknown>);
  return found.map(({ name, version }) => ({
    name: String(name).slice(0, MAX_TEXT),
    version: String(version).slice(0, MAX_TEXT),
  }));
}
