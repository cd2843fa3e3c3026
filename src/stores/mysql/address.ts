import { readFileSync } from "node:fs";
import { ConfigError } from "../../config.ts";

/** Where a MariaDB server is and who asks. */
export type Address = {
  host: string;
  port: number;
  socketPath: string | null;
  user: string;
  password: string;
  database: string;
  /** CA certificates in PEM, or true for the system's; null: no TLS. */
  tls: string | true | null;
  /** The URL as messages show it: without the password and the parameters. */
  shown: string;
};

const ALLOWED = "allowed are charset=utf8mb4, ssl=true, ssl_ca=FILE and unix_socket=PATH";

/** Reads `mysql://USER:PASSWORD@HOST[:PORT]/DATABASE[?…]`. Throws ConfigError. */
export function parseAddress(url: string): Address {
  const { hostname, port, username, password, pathname, searchParams } = new URL(url);
  const host = hostname.replace(/^\[(.*)\]$/, "$1");
  const user = decoded(username);
  const database = decoded(pathname.slice(1));
  const shown = `mysql://${username}${password === "" ? "" : ":***"}@${hostname}${port === "" ? "" : `:${port}`}${pathname}`;
  const address: Address = {
    host: decoded(host),
    port: port === "" ? 3306 : Number(port),
    socketPath: null,
    user,
    password: decoded(password),
    database,
    tls: null,
    shown,
  };
  if (user === "")
    throw new ConfigError(`DATABASE_URL=${shown} names no user: allowed is mysql://USER:PASSWORD@HOST/DATABASE`);
  for (const [name, value] of searchParams) takeParameter(address, name, value);
  return address;
}

function takeParameter(address: Address, name: string, value: string): void {
  if (name === "charset" && value.toLowerCase() === "utf8mb4") return;
  if (name === "ssl" && (value === "true" || value === "false")) address.tls ??= value === "true" ? true : null;
  else if (name === "ssl_ca") address.tls = readCertificates(address, value);
  else if (name === "unix_socket" && value.startsWith("/")) address.socketPath = value;
  else throw new ConfigError(`DATABASE_URL=${address.shown}?${name}=${value} is not valid: ${ALLOWED}`);
}

function readCertificates(address: Address, path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? String(error);
    throw new ConfigError(`DATABASE_URL=${address.shown}?ssl_ca=${path} can't be read: ${code}`);
  }
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw new ConfigError("DATABASE_URL is not valid: a % that belongs to a name or a password is written %25");
  }
}
