import { isUtf8 } from "node:buffer";

/**
 * How many of the last bytes (0 to 3) are the beginning of a UTF-8 character whose rest is missing.
 * Looks at the end only; what comes before may be anything.
 */
export function incompleteTail(bytes: Uint8Array): number {
  const last = bytes.length - 1;
  for (let back = 0; back < 3 && back <= last; back++) {
    const byte = bytes[last - back] ?? 0;
    if (byte < 0x80) return 0;
    if (byte < 0xc0) continue;
    return back + 1 < sequenceLength(byte) ? back + 1 : 0;
  }
  return 0;
}

function sequenceLength(lead: number): number {
  if (lead >= 0xc2 && lead < 0xe0) return 2;
  if (lead >= 0xe0 && lead < 0xf0) return 3;
  if (lead >= 0xf0 && lead < 0xf5) return 4;
  return 1;
}

/** The bytes as text, with U+FFFD for what is not UTF-8; `exact` is false when there was any. */
export function decodeOutput(bytes: Uint8Array): { text: string; exact: boolean } {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("utf8");
  return { text, exact: isUtf8(bytes) };
}
