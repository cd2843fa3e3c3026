import type { BlockList } from "node:net";
import { isIPv4, isIPv6 } from "node:net";
import { AppError } from "../../errors.ts";
import { blockListOf, isSpecialAddress } from "./address.ts";
import { parseHost, type Target } from "./host.ts";

type Ports = readonly number[];
type Rule =
  | { kind: "name"; name: string; ports: Ports }
  | { kind: "below"; suffix: string; ports: Ports }
  | { kind: "range"; family: "ipv4" | "ipv6"; range: BlockList; ports: Ports };

/** Ports of a rule that names none. */
const WEB_PORTS: Ports = [80, 443];
const MAX_RULES = 100;

/**
 * Where a sandbox may connect to. A rule is a host name ("pypi.org"), all names below one ("*.example.com"), an address
 * or a range ("10.1.2.3", "10.0.0.0/8", "[fd00::1]"), each with an optional ":port"; without it ports 80 and 443.
 * Special addresses (see address.ts) are reached only where a rule names the address itself, and where they are among
 * those that rules may name.
 */
export class AllowList {
  readonly #rules: readonly Rule[];
  readonly #nameable: BlockList | null;

  /**
   * `nameable`: ranges of the special addresses that rules may name; null: all. Throws `bad_request` that names the rule which
   * can't be read.
   */
  constructor(rules: readonly string[], nameable: readonly string[] | null = null) {
    this.#nameable = nameable === null ? null : blockListOf(nameable);
    if (rules.length > MAX_RULES)
      throw new AppError("bad_request", `network.allow may hold at most ${MAX_RULES} rules`);
    this.#rules = rules.map(parseRule);
  }

  /** Whether the target may be asked for at all, before its name is resolved. */
  permitsTarget({ host, port }: Target): boolean {
    if (host.kind === "ip") return this.permitsAddress(host.address, port, false);
    return this.#rules.some((rule) => {
      if (!rule.ports.includes(port)) return false;
      if (rule.kind === "name") return rule.name === host.name;
      return rule.kind === "below" && host.name.endsWith(rule.suffix);
    });
  }

  /** Whether it is an address that no rule could permit. */
  bars({ host }: Target): boolean {
    return host.kind === "ip" && this.#isBarred(host.address);
  }

  #isBarred(address: string): boolean {
    const family = isIPv6(address) ? "ipv6" : "ipv4";
    return this.#nameable !== null && isSpecialAddress(address) && !this.#nameable.check(address, family);
  }

  /** Whether this address may be dialled. `byName`: a permitted name led to it, so only special addresses need a rule. */
  permitsAddress(address: string, port: number, byName: boolean): boolean {
    if (byName && !isSpecialAddress(address)) return true;
    if (this.#isBarred(address)) return false;
    const family = isIPv6(address) ? "ipv6" : "ipv4";
    return this.#rules.some(
      (rule) =>
        rule.kind === "range" &&
        rule.family === family &&
        rule.ports.includes(port) &&
        rule.range.check(address, family),
    );
  }
}

function parseRule(text: string): Rule {
  const match = /^(\*\.)?(\[[^\]]*\]|[^:]*?)(?:\/(\d{1,3}))?(?::([1-9]\d{0,4}))?$/.exec(text);
  if (match === null) throw unreadable(text);
  const [, wildcard, hostText = "", bits, portText] = match;
  const ports = portText === undefined ? WEB_PORTS : [Number(portText)];
  const host = parseHost(hostText);
  if (host === null || Number(portText ?? 1) > 65_535) throw unreadable(text);
  if (host.kind === "ip") {
    const family = isIPv4(host.address) ? "ipv4" : "ipv6";
    const most = family === "ipv4" ? 32 : 128;
    if (wildcard !== undefined || Number(bits ?? most) > most) throw unreadable(text);
    return { kind: "range", family, range: blockListOf([`${host.address}/${bits ?? most}`]), ports };
  }
  if (bits !== undefined) throw unreadable(text);
  if (wildcard === undefined) return { kind: "name", name: host.name, ports };
  return { kind: "below", suffix: `.${host.name}`, ports };
}

function unreadable(text: string): AppError {
  const shown = JSON.stringify(text.slice(0, 100));
  return new AppError(
    "bad_request",
    `network.allow: ${shown} is not a host name, "*." name, address or range with an optional port`,
  );
}
