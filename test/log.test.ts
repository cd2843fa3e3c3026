import { expect, test } from "bun:test";
import { createLog, type LogFields } from "../src/log.ts";
import { withRequestId } from "../src/request-scope.ts";

/** The line of an event, without its time. */
function text(event: string, fields: LogFields, level: "warn" | "error" = "warn"): string {
  let written = "";
  createLog({ level: "debug", format: "text", write: (line) => (written += line) })[level](event, fields);
  return written.replace(/^\d{4}-\d\d-\d\dT[\d:.]+Z /, "");
}

test("text is a line that a person reads: words bare, the rest quoted", () => {
  const fields = {
    path: "/a/b",
    status: 404,
    why: "no such file",
    list: [1],
    nothing: null,
    absent: undefined,
    tail: "",
  };
  expect(text("http.request", fields)).toBe(
    'WARN  http.request       path=/a/b status=404 why="no such file" list=[1] nothing=null tail=""\n',
  );
});

test("text can't be made to look like another line or field", () => {
  const fields = { path: "/a\n2026-11-24 INFO forged", name: "x status=200", bell: "\u001b[2J" };
  expect(text("e", fields).split("\n")).toHaveLength(2);
  expect(text("e", fields)).toEndWith('path="/a\\n2026-11-24 INFO forged" name="x status=200" bell="\\u001b[2J"\n');
});

test("text has an error with its causes on the line, and where it is from below that of an error", () => {
  const error = new Error("it failed", { cause: new TypeError("no route") });
  expect(text("e", { error })).toEndWith('error="Error: it failed (TypeError: no route)"\n');
  const lines = text("e", { error }, "error").trimEnd().split("\n");
  expect(lines.length).toBeGreaterThan(1);
  for (const line of lines.slice(1)) expect(line).toStartWith("    at ");
});

test("what a request starts has its id, also later and beside others", async () => {
  const lines: { event: string; request_id?: string }[] = [];
  const log = createLog({ level: "info", format: "json", write: (line) => void lines.push(JSON.parse(line) as never) });
  const work = async (name: string): Promise<void> => {
    await Bun.sleep(1);
    setTimeout(() => log.info(name), 1);
    await Bun.sleep(3);
  };
  await Promise.all([
    withRequestId("one", () => work("first")),
    withRequestId("two", () => work("second")),
    work("own"),
  ]);
  expect(lines.map(({ event, request_id: id }) => `${event} ${id}`).toSorted()).toEqual([
    "first one",
    "own undefined",
    "second two",
  ]);
});
