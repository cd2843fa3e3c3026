import { describe, expect, test } from "bun:test";
import { isSpecialAddress } from "../../../src/executor/egress/address.ts";
import { AllowList } from "../../../src/executor/egress/allow-list.ts";
import { parseHost, parseTarget } from "../../../src/executor/egress/host.ts";

const permits = (rules: string[], target: string): boolean => {
  const parsed = parseTarget(target);
  return parsed !== null && new AllowList(rules).permitsTarget(parsed);
};

describe("hosts", () => {
  test.each([
    ["PyPI.org.", { kind: "name", name: "pypi.org" }],
    ["a-b.c_d.example", { kind: "name", name: "a-b.c_d.example" }],
    ["10.1.2.3", { kind: "ip", address: "10.1.2.3" }],
    ["[::FFFF:1.2.3.4]", { kind: "ip", address: "::ffff:102:304" }],
  ])("%s", (text, host) => expect(parseHost(text)).toEqual(host as ReturnType<typeof parseHost>));

  test.each([
    "",
    ".",
    "..",
    "a..b",
    "-a.b",
    "a b",
    "pypi.org\0.evil.com",
    "pypi.org%00",
    "user@pypi.org",
    "pypi.org/",
    "0x7f.1",
    "127.1",
    "2130706433",
    "0177.0.0.1",
    "1.2.3.4.5",
    "256.1.1.1",
    "[::1",
    "[fe80::1%eth0]",
    "::1",
    "exämple.org",
    "a.0x1",
    `${"a".repeat(64)}.org`,
    `${"a.".repeat(130)}org`,
  ])("refuses %j", (text) => expect(parseHost(text)).toBeNull());
});

describe("rules", () => {
  test("a name is that name on the web's ports", () => {
    expect(permits(["pypi.org"], "pypi.org:443")).toBe(true);
    expect(permits(["pypi.org"], "PYPI.ORG.:80")).toBe(true);
    for (const other of ["pypi.org:8443", "x.pypi.org:443", "pypi.org.evil.com:443", "evilpypi.org:443"])
      expect(permits(["pypi.org"], other)).toBe(false);
  });

  test("a wildcard is what is below, not the name itself", () => {
    expect(permits(["*.example.com:8443"], "a.b.example.com:8443")).toBe(true);
    expect(permits(["*.example.com:8443"], "example.com:8443")).toBe(false);
    expect(permits(["*.example.com:8443"], "badexample.com:8443")).toBe(false);
    expect(permits(["*.example.com:8443"], "a.example.com:443")).toBe(false);
  });

  test("an address is reached by itself only where a rule lists it", () => {
    expect(permits(["10.0.0.0/8:5432"], "10.2.3.4:5432")).toBe(true);
    expect(permits(["10.0.0.0/8:5432"], "11.2.3.4:5432")).toBe(false);
    expect(permits(["pypi.org"], "8.8.8.8:443")).toBe(false);
    expect(permits([], "pypi.org:443")).toBe(false);
  });

  test("a permitted name that leads to a special address is not dialled unless that is listed", () => {
    const list = new AllowList(["pypi.org", "192.168.1.5"]);
    expect(list.permitsAddress("151.101.0.223", 443, true)).toBe(true);
    for (const address of [
      "127.0.0.1",
      "169.254.169.254",
      "168.63.129.16",
      "10.0.0.1",
      "::1",
      "::ffff:127.0.0.1",
      "fd00::1",
      "64:ff9b::7f00:1",
    ])
      expect(list.permitsAddress(address, 443, true)).toBe(false);
    expect(list.permitsAddress("192.168.1.5", 443, true)).toBe(true);
  });

  test.each(["*", "*.*.com", "http://pypi.org", "pypi.org:0", "pypi.org:99999", "pypi.org/24", "10.0.0.0/33", "a b"])(
    "refuses the rule %j",
    (rule) => expect(() => new AllowList([rule])).toThrow(),
  );
});

test("special addresses", () => {
  for (const address of [
    "0.0.0.0",
    "100.64.1.1",
    "172.31.0.1",
    "224.0.0.1",
    "255.255.255.255",
    "::",
    "fe80::1",
    "2002:7f00:1::",
    "::ffff:0:7f00:1",
    "::ffff:127.0.0.1",
    "64:ff9b:1::7f00:1",
    "fc00::1",
    "fec0::1",
    "ff02::1",
    "5f00::1",
    "2001:0:1::1",
  ])
    expect(isSpecialAddress(address)).toBe(true);
  for (const address of ["1.1.1.1", "172.32.0.1", "2606:4700::1111", "2a00:1450::1", "3ffe::1"])
    expect(isSpecialAddress(address)).toBe(false);
});
