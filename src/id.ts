/** 8 random hexadecimal digits from the system's secure source. */
function hex8(): string {
  return crypto.getRandomValues(new Uint8Array(4)).toHex();
}

/** `sess_YYYYMMDD_<8 hex>` (contract, Sessions). */
export function newSessionId(now: Date): string {
  return `sess_${now.toISOString().slice(0, 10).replaceAll("-", "")}_${hex8()}`;
}

/** `exec_YYYYMMDDHHMMSS_<8 hex>` (contract, Executions). */
export function newExecutionId(now: Date): string {
  return `exec_${now.toISOString().slice(0, 19).replaceAll(/[-:T]/g, "")}_${hex8()}`;
}

/** A request id: 32 hexadecimal digits. */
export function newRequestId(): string {
  return crypto.getRandomValues(new Uint8Array(16)).toHex();
}
