import { describe, expect, test } from "bun:test";
import { attachment, parametersOf } from "../../src/http/content-disposition.ts";
import { boundaryOf, openPart } from "../../src/http/multipart.ts";

function inChunks(bytes: Uint8Array, size: number): ReadableStream<Uint8Array> {
  let at = 0;
  return new ReadableStream<Uint8Array>({
    pull(controller) {
      if (at >= bytes.length) return controller.close();
      controller.enqueue(bytes.slice(at, at + size));
      at += size;
    },
  });
}

const part = (name: string, content: string, more = "") =>
  `--B\r\nContent-Disposition: form-data; name="${name}"${more}\r\n\r\n${content}\r\n`;

async function read(body: string, size: number): Promise<{ filename: string; content: string }> {
  const { filename, body: stream } = await openPart(inChunks(Buffer.from(body), size), "B", "file");
  return { filename, content: await new Response(stream).text() };
}

describe("a part of a form", () => {
  const tricky = "\r\n--\r\n--C\r\n\r\r\n-\n--B\r\n-\r\n--";
  const bodies: [string, string, string][] = [
    ["alone", `${part("file", "hello")}--B--\r\n`, "hello"],
    ["empty", `${part("file", "")}--B--`, ""],
    [
      "after others",
      `${part("a", "1")}${part("b", "x".repeat(5000))}${part("file", "hello")}${part("c", "2")}--B--\r\n`,
      "hello",
    ],
    ["after a preamble", `preamble\r\n${part("file", "hello")}--B--\r\nepilogue`, "hello"],
    ["with what resembles a boundary", `${part("file", tricky)}--B--\r\n`, tricky],
    ["of several kilobytes", `${part("file", "\r\n-ü".repeat(3000))}--B--\r\n`, "\r\n-ü".repeat(3000)],
  ];
  for (const [name, body, content] of bodies)
    test(`${name}, however it is cut into chunks`, async () => {
      for (const size of [1, 2, 3, 5, 7, 64, 100_000])
        expect([size, (await read(body, size)).content]).toEqual([size, content]);
    });

  test("its file name, as browsers and others write it", async () => {
    const names: [string, string][] = [
      ['; filename="a.txt"', "a.txt"],
      ["; filename=a.txt", "a.txt"],
      ['; filename="ü 😀.txt"', "ü 😀.txt"],
      ['; filename="a\\"b\\\\.txt"', 'a"b\\.txt'],
      ['; filename="a;b.txt"', "a;b.txt"],
      ["; filename=\"x\"; filename*=UTF-8''%C3%BC%20b.txt", "ü b.txt"],
      ["", ""],
    ];
    for (const [header, name] of names)
      expect((await read(`${part("file", "x", header)}--B--`, 10)).filename).toBe(name);
  });

  const bad: [string, string, string][] = [
    ["that is cut inside the file", part("file", "hello").slice(0, -1), "bad_request"],
    ["that is cut inside the headers", "--B\r\nContent-Disp", "bad_request"],
    ["without a boundary", "x".repeat(10_000), "bad_request"],
    ["with headers without end", `--B\r\n${"x: y\r\n".repeat(10_000)}`, "bad_request"],
    ["with parts without end", part("a", "").repeat(100), "validation_failed"],
    ["without the part", `${part("a", "1")}--B--`, "validation_failed"],
  ];
  const codeOf = (reading: Promise<unknown>): Promise<string> =>
    reading.then(
      () => "none",
      (thrown: { code: string }) => thrown.code,
    );
  for (const [name, body, code] of bad)
    test(`a body ${name}: ${code}`, async () => {
      for (const size of [1, 1000]) expect(await codeOf(read(body, size))).toBe(code);
    });
});

test("the boundary of a content type", () => {
  expect(boundaryOf("multipart/form-data; boundary=abc")).toBe("abc");
  expect(boundaryOf('Multipart/Form-Data; charset=utf-8; Boundary="a b:c"')).toBe("a b:c");
  for (const type of [
    null,
    "",
    "text/plain; boundary=b",
    "multipart/form-data",
    "multipart/form-data; boundary=",
    `multipart/form-data; boundary=${"x".repeat(201)}`,
  ])
    expect(() => boundaryOf(type)).toThrow("multipart/form-data");
});

test("a download's name, whatever it is", () => {
  const names: [string, string][] = [
    ["a.txt", 'attachment; filename="a.txt"'],
    ["naïve.txt", "attachment; filename=\"na_ve.txt\"; filename*=UTF-8''na%C3%AFve.txt"],
    ["😀", "attachment; filename=\"_\"; filename*=UTF-8''%F0%9F%98%80"],
    ['a"b\\c%41', "attachment; filename=\"a_b_c_41\"; filename*=UTF-8''a%22b%5Cc%2541"],
    ["it's (1)*.txt", 'attachment; filename="it\'s (1)*.txt"'],
    ["ü'()*", "attachment; filename=\"_'()*\"; filename*=UTF-8''%C3%BC%27%28%29%2A"],
    ["a\r\nX: y", "attachment; filename=\"a__X: y\"; filename*=UTF-8''a%0D%0AX%3A%20y"],
    ["lone\ud800", "attachment; filename=\"lone_\"; filename*=UTF-8''lone%EF%BF%BD"],
  ];
  for (const [name, header] of names) {
    expect(attachment(name)).toBe(header);
    expect(parametersOf(header).get("filename")).toBe(name.toWellFormed());
  }
});
