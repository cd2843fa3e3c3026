import { BlockList, isIPv6 } from "node:net";

/**
 * Addresses that a sandbox may not reach unless its allow-list names them: what is not globally reachable by the IANA
 * special-purpose address registries (RFC 6890 and successors), which covers loopback, private, link-local, shared and
 * multicast addresses, and with link-local the cloud metadata service at 169.254.169.254. And the one of Azure that is
 * public by its number alone.
 */
const SPECIAL_V4 = [
  "0.0.0.0/8",
  "10.0.0.0/8",
  "100.64.0.0/10",
  "127.0.0.0/8",
  "168.63.129.16/32",
  "169.254.0.0/16",
  "172.16.0.0/12",
  "192.0.0.0/24",
  "192.0.2.0/24",
  "192.88.99.0/24",
  "192.168.0.0/16",
  "198.18.0.0/15",
  "198.51.100.0/24",
  "203.0.113.0/24",
  "224.0.0.0/4",
  "240.0.0.0/4",
];
/**
 * Everything outside of global unicast (2000::/3, by the IANA registry of IPv6 addresses), and in there what is not globally
 * reachable, with Teredo and 6to4, which embed an IPv4 address. The other forms that embed one (mapped, translated, NAT64)
 * lie outside.
 */
const SPECIAL_V6 = ["::/3", "4000::/2", "8000::/1", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"];

/** Two lists, because a BlockList also holds an IPv4 address against the mapped range of IPv6. */
const specialV4 = blockListOf(SPECIAL_V4);
const specialV6 = blockListOf(SPECIAL_V6);

/** Whether a sandbox may reach an address only where a rule names it: one of SPECIAL_V4 or SPECIAL_V6. */
export function isSpecialAddress(address: string): boolean {
  return isIPv6(address) ? specialV6.check(address, "ipv6") : specialV4.check(address, "ipv4");
}

/** A list of CIDR ranges, such as "10.0.0.0/8" or "fd00::/8". Throws a RangeError or TypeError for one that is not. */
export function blockListOf(ranges: readonly string[]): BlockList {
  const list = new BlockList();
  for (const range of ranges) {
    const [base = "", bits = ""] = range.split("/");
    list.addSubnet(base, Number(bits), isIPv6(base) ? "ipv6" : "ipv4");
  }
  return list;
}
