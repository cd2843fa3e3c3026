import { expect, test } from "bun:test";
import { fstatSync, openSync, statSync } from "node:fs";
import { fileResponse } from "../../src/executor/file-response.ts";

test("a body that can't be read ends with an error, and leaves no descriptor open", async () => {
  // A directory in the place of a file whose disk fails: it can be opened, and reading it is an error.
  const fd = openSync("/tmp", "r");
  const stats = Object.assign(statSync("/tmp"), { size: 10 });
  const { body } = fileResponse(fd, stats, "GET", new Headers());
  expect(new Response(body).bytes()).rejects.toThrow("EISDIR");
  expect(() => fstatSync(fd)).toThrow("EBADF");
});
