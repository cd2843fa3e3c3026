import { createHash, timingSafeEqual } from "node:crypto";

/** The tenant of whoever operates the server: of open servers and of the first key. It manages every tenant's keys. */
export const OPERATOR_TENANT = "default";

/** A key as it is stored. The key itself is 256 random bits, so that one SHA-256 of it is enough to keep it secret. */
export type ApiKey = {
  name: string;
  tenant: string;
  /** SHA-256 of the key, hexadecimal. */
  hash: string;
  /** The first characters of the key, by which a person tells it from others. */
  hint: string;
  created_at: string;
  /** To the minute; null until it was used. */
  last_used_at: string | null;
  /** A revoked key stays listed until another takes its name. */
  revoked_at: string | null;
};

/** The records of keys. Instants are ISO 8601. */
export interface KeyStore {
  /** Throws `key_exists` when a key that is not revoked has the name. */
  insert(key: ApiKey): Promise<void>;
  /** Revoked ones too, by name. */
  list(): Promise<ApiKey[]>;
  get(name: string): Promise<ApiKey | null>;
  /** The key with this hash, unless it is revoked. */
  findByHash(hash: string): Promise<ApiKey | null>;
  /** Whether there is a key that is not revoked. */
  any(): Promise<boolean>;
  /** False when there is no key of this name that is not revoked already. */
  revoke(name: string, at: string): Promise<boolean>;
  used(name: string, at: string): Promise<void>;
}

/** `sbx_` and 256 random bits as base64url. */
export function newKey(): string {
  return `sbx_${crypto.getRandomValues(new Uint8Array(32)).toBase64({ alphabet: "base64url", omitPadding: true })}`;
}

/** The SHA-256 of a key, as it is stored. */
export function hashOf(key: string): string {
  return createHash("sha256").update(key).digest("hex");
}

/** Compares two hashes in a time that tells nothing about where they differ. */
export function sameHash(a: string, b: string): boolean {
  return a.length === b.length && timingSafeEqual(Buffer.from(a), Buffer.from(b));
}

/** What of a key may be shown: enough to tell it, never so much that it helps to guess it. */
export function hintOf(key: string): string {
  return key.length >= 32 ? `${key.slice(0, 8)}…` : "…";
}
