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
/** Also the ranges that embed an IPv4 address (mapped, NAT64, Teredo, 6to4), since those lead to the same places. */
const SPECIAL_V6 = [
  "::/128",
  "::1/128",
  "::ffff:0:0/96",
  "64:ff9b::/96",
  "64:ff9b:1::/48",
  "100::/64",
  "2001::/23",
  "2001:db8::/32",
  "2002::/16",
  "3fff::/20",
  "5f00::/16",
  "fc00::/7",
  "fe80::/10",
  "fec0::/10",
  "ff00::/8",
  "::/96",
];

/** Two lists, because a BlockList also holds an IPv4 address against the mapped range of IPv6. */
const specialV4 = blockListOf(SPECIAL_V4);
const specialV6 = blockListOf(SPECIAL_V6);

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
