import { expect, test } from "bun:test";
import { HttpExecutor } from "../../src/executor/client.ts";
import type { WorkspaceTree } from "../../src/executor/protocol.ts";

const SHA = "a".repeat(64);
const file = (path: string, more: object = {}) => ({
  path,
  mode: "0644",
  size: 1,
  sha256: SHA,
  modified_ms: 1,
  ...more,
});
const tree = (more: object): object => ({ tag: SHA, skipped: 0, entries: [], directories: [], links: [], ...more });

/** What the client makes of an answer about a workspace of at most 1000 bytes. */
async function answered(answer: string): Promise<WorkspaceTree | null> {
  using pod = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: () => new Response(answer) });
  const executor = new HttpExecutor({ url: `http://127.0.0.1:${pod.port}`, token: "x", indexUrl: "http://i.invalid" });
  return await executor.tree("s", { known: null, maxBytes: 1000 });
}

test("a workspace is taken as an executor says it, and nothing beside", async () => {
  const content = {
    entries: [file("a/b", { mode: "1755" }), file("é", { modified_ms: -5 })],
    directories: [{ path: "a", mode: "0700" }],
    links: [{ path: "l", target: "../../etc/passwd" }],
  };
  const said = tree({ ...content, entries: content.entries.map((one) => ({ ...one, more: "x" })), other: 1 });
  expect(await answered(JSON.stringify(said))).toEqual({ tag: SHA, skipped: 0, ...content });
});

test.each<[string, object]>([
  ["no object", []],
  ["a tag that is none", tree({ tag: "x" })],
  ["a list that is none", tree({ entries: { length: 1 } })],
  ["an entry that is none", tree({ entries: [null] })],
  ["more entries than a version has", tree({ entries: Array.from({ length: 50_001 }, (_, i) => file(String(i))) })],
  ["a hash that is none", tree({ entries: [file("a", { sha256: "../../x" })] })],
  ["a size that is text", tree({ entries: [file("a", { size: "1" })] })],
  ["a size below nothing", tree({ entries: [file("a", { size: -1 })] })],
  ["a mode that is none", tree({ entries: [file("a", { mode: "4755" })] })],
  ["an instant that is none", tree({ entries: [file("a", { modified_ms: 1e18 })] })],
  ["the same path twice", tree({ entries: [file("a")], links: [{ path: "a", target: "x" }] })],
  ["a target with a NUL", tree({ links: [{ path: "a", target: "x\0" }] })],
  ["a long target", tree({ links: [{ path: "a", target: "x".repeat(4097) }] })],
  ...["", "/etc/passwd", "../x", "a/../b", "a//b", "a/", "./a", "a\0b", "a/".repeat(3000) + "b", "x".repeat(300)].map(
    (path): [string, object] => [`the path ${path.slice(0, 20)}`, tree({ directories: [{ path, mode: "0755" }] })],
  ),
])("an executor that says %s is not believed", async (_, said) => {
  const error = await answered(JSON.stringify(said)).catch((one: unknown) => one);
  expect(error).toMatchObject({ code: "executor_unavailable", message: expect.stringContaining("can't be") });
});

test("a workspace that is larger than the session may have is no version", async () => {
  const error = await answered(JSON.stringify(tree({ entries: [file("a", { size: 1001 })] }))).catch(
    (one: unknown) => one,
  );
  expect(error).toMatchObject({ code: "body_too_large" });
});
