import { AppError } from "../errors.ts";

const UNIT_BYTES = { Mi: 1024 ** 2, Gi: 1024 ** 3 } as const;

/** Bytes of a size such as "512Mi" or "2Gi". `invalid_size` when it is not a positive integer with Mi or Gi, or above `maxBytes`. */
export function parseSize(field: string, text: string, maxBytes: number): number {
  const match = /^([1-9][0-9]{0,8})(Mi|Gi)$/.exec(text);
  if (match === null)
    throw new AppError("invalid_size", `${field} must be a whole number with Mi or Gi, such as "512Mi"`);
  const bytes = Number(match[1]) * UNIT_BYTES[match[2] as keyof typeof UNIT_BYTES];
  if (bytes > maxBytes)
    throw new AppError("invalid_size", `${field} may be at most ${formatMebibytes(maxBytes / UNIT_BYTES.Mi)}`);
  return bytes;
}

/** "512Mi", or "2Gi" when it is a whole number of them. */
export function formatMebibytes(mebibytes: number): string {
  return mebibytes % 1024 === 0 ? `${mebibytes / 1024}Gi` : `${mebibytes}Mi`;
}

/** CPU cores as a number. 422 when it is not a number, `invalid_size` when it is not in (0, max]. */
export function parseCpu(value: string | number, max: number): number {
  const cores =
    typeof value === "number" ? value : /^\s*[+-]?(\d+\.?\d*|\.\d+)\s*$/.test(value) ? Number(value) : Number.NaN;
  if (!Number.isFinite(cores)) {
    const msg = 'cpu must be a number of cores, such as 0.5 or "2"';
    throw new AppError("validation_failed", msg, { issues: [{ type: "number_parsing", loc: ["body", "cpu"], msg }] });
  }
  if (cores <= 0 || cores > max) throw new AppError("invalid_size", `cpu must be more than 0 and at most ${max}`);
  return cores;
}

/** Refuses names that no environment can hold and those that would steer the dynamic loader. */
export function checkEnvironment(env: Record<string, string>): void {
  for (const [name, value] of Object.entries(env)) {
    if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(name))
      throw new AppError("invalid_environment", "env_vars: a name must match [A-Za-z_][A-Za-z0-9_]*");
    if (name.startsWith("LD_"))
      throw new AppError("invalid_environment", "env_vars: loader variables (LD_*) are refused");
    if (value.includes("\0")) throw new AppError("invalid_environment", `env_vars: ${name} holds a NUL byte`);
  }
}
