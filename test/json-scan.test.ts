import { describe, expect, test } from "bun:test";
import { containersIn } from "../src/json-scan.ts";
import { parseWithin } from "../src/json-text.ts";

const isJson = (text: string, check: (text: string) => unknown): boolean => {
  try {
    check(text);
    return true;
  } catch (error) {
    expect(error).toBeInstanceOf(SyntaxError);
    return false;
  }
};

describe("what is JSON", () => {
  const texts = [
    ..."1,-1,0,-0,01,-,.5,1.,1.5,1e5,1E+5,1e-05,1e,1e+,+1,1.5.5,--1,0x1,NaN,Infinity".split(","),
    ...["true", "tru", "truex", "null", "nul", "False", "", " ", "\ufeff1", "1 2", "1,", "[1 2]", "\u00a01"],
    ...["[]", "[1]", "[1,]", "[,1]", "[", "]", "[1", "[[],{}]", "[}", "{]", "[]]", "[] []", " [ 1 , 2 ] \r\n"],
    ...[
      "{}",
      '{"a":1}',
      '{"a":1,}',
      '{"a"}',
      '{"a":}',
      "{a:1}",
      '{"a":1 "b":2}',
      '{"a":[{}]}',
      '{"a":1,"a":2}',
      "{1:1}",
    ],
    ...[
      '"a"',
      '"',
      '"a',
      '"\\"',
      '"\\""',
      '"\\u12ab"',
      '"\\u12a"',
      '"\\x"',
      '"\\',
      '"\t"',
      '"\u2028"',
      '"\ud800"',
      "'a'",
    ],
  ];
  test.each(texts)("%j is what JSON.parse takes or not", (text) => {
    expect(isJson(text, containersIn)).toBe(isJson(text, JSON.parse));
  });

  test("is the same after any change of one character", () => {
    const text = '{"a":[1,-2.5e3,"b\\n\\u00e9",{"c":null,"d":[true,false,[]]}],"e":{}} ';
    for (let at = 0; at < text.length; at++)
      for (const piece of ["", ...'{}[],:"\\0-.eEnu \n'.split("")]) {
        const changed = text.slice(0, at) + piece + text.slice(at + 1);
        expect([changed, isJson(changed, containersIn)]).toEqual([changed, isJson(changed, JSON.parse)]);
      }
  });

  test("may be nested as deep as it likes", () => {
    expect(containersIn("[".repeat(1_000_000) + "]".repeat(1_000_000))).toBe(1_000_000);
    expect(() => containersIn("[".repeat(1_000_000))).toThrow(SyntaxError);
  });
});

test("objects and lists are counted, and those in strings are none", () => {
  expect(containersIn('[{"[{":"[{"},[],{"a":[]},1]')).toBe(5);
});

test("a text is parsed that has no more than so many, and no other", () => {
  const list = (count: number): string => `[${"[],".repeat(count)}"${"x".repeat(70_000)}"]`;
  expect(parseWithin(list(9), 10)).toHaveLength(10);
  expect(() => parseWithin(list(10), 10)).toThrow(SyntaxError);
});
