import { describe, expect, test } from "bun:test";
import { checkedJson, memberOf, rawJson, withMember } from "../src/json-text.ts";

describe("a member's text", () => {
  const cases: [string, string | null][] = [
    ['{"v":1}', "1"],
    [' {\n "v" :\t12345678901234567890 , "w" : 2 } ', "12345678901234567890"],
    ['{"a":{"v":1,"b":[{"v":2}]},"c":"\\"v\\":3","v":"}\\\\"}', '"}\\\\"'],
    ['{"v":[1,\r\n{"x":"]"}] ,"w":0}', '[1,  {"x":"]"}]'],
    ['{"v":1,"v":2}', "2"],
    ['{"v":1,"v":null}', null],
    ['{"\\u0076":true}', "true"],
    ['{"v":-1.0e+5}', "-1.0e+5"],
    ['{"v":""}', '""'],
    ['{"v":{}}', "{}"],
    ['{"w":1}', null],
    ["{}", null],
    ["[1]", null],
    ['["v"]', null],
    ['["v",1]', null],
    ["7", null],
  ];
  test.each(cases)("%j", (text, expected) => {
    JSON.parse(text);
    expect(memberOf(text, "v") as string | null).toBe(expected);
  });

  test("is what JSON.parse finds, for any object", () => {
    let seed = 7;
    const below = (n: number): number => (seed = (seed * 48271) % 0x7fffffff) % n;
    const space = (): string => ["", "", " ", "\n\t"][below(4)] ?? "";
    const word = (): string => JSON.stringify(["v", 'q"', "\\", "{", "]", ",", "ü", ""][below(8)]);
    const value = (depth: number): string => {
      const list = Array.from({ length: below(4) }, () => `${space()}${depth > 0 ? value(depth - 1) : "0"}${space()}`);
      const object = list.map((item) => `${space()}${word()}${space()}:${item}`);
      return [`[${list.join(",")}]`, `{${object.join(",")}}`, word(), "-1.5e3", "true", "null"][below(6)] ?? "";
    };
    for (let i = 0; i < 2000; i++) {
      const members = Array.from({ length: below(5) }, () => `${space()}${word()}${space()}:${space()}${value(3)}`);
      const text = `${space()}{${members.join(",")}${space()}}${space()}`;
      const found = memberOf(text, "v");
      const expected = (JSON.parse(text) as Record<string, unknown>)["v"] ?? null;
      expect([text, found === null ? null : (JSON.parse(found) as unknown)]).toEqual([text, expected]);
    }
  });

  test("of a text that is not JSON means nothing, and is found in finite time", () => {
    for (const text of ["", "{", '{"v"', '{"v":', '{"v":"', '{"v":[', '{"v":]', '{"v":1,', '{"', "{{"])
      expect(() => memberOf(text, "v")).not.toThrow(RangeError);
  });
});

test("a member is added last", () => {
  expect(withMember({}, "v", rawJson([1])) as string).toBe('{"v":[1]}');
  expect(withMember({ a: "}" }, 'q"', null) as string).toBe('{"a":"}","q\\"":null}');
});

test("a checked text is JSON on one line", () => {
  expect(checkedJson(' {"a":\r\n1.0}\n') as string).toBe('{"a":  1.0}');
  expect(checkedJson(" null ")).toBeNull();
  expect(() => checkedJson("{")).toThrow(SyntaxError);
});
