import { describe, expect, test } from "bun:test";
import { dirname, join, relative } from "node:path";

const SRC = join(import.meta.dir, "../src");

/** Each folder (or top-level file) and what it may import; `cli` and `app` may import all. */
const BASE = ["errors", "clock", "id", "log", "version", "changes"];
const MAY_IMPORT: Record<string, readonly string[]> = {
  errors: [],
  clock: [],
  id: [],
  log: [],
  version: [],
  changes: ["executions"],
  setting: [],
  settings: ["log", "setting"],
  config: ["setting", "settings"],
  "data-directory": ["config"],
  metrics: ["executions"],
  templates: [...BASE, "sessions", "executor/protocol"],
  sessions: [...BASE, "executions", "templates", "provisioners/provisioner", "executor/protocol"],
  executions: [...BASE, "sessions", "provisioners/provisioner", "executor/protocol"],
  workspaces: [...BASE, "sessions", "provisioners/provisioner", "executor/protocol", "objects/objects"],
  keys: [...BASE],
  scheduler: [...BASE, "sessions", "executions", "templates", "provisioners/provisioner", "executor/protocol"],
  http: [...BASE, "config", "sessions", "executions", "templates", "workspaces", "keys", "executor/protocol"],
  provisioners: [...BASE, "sessions", "executions", "templates", "executor/protocol", "executor/client"],
  stores: [...BASE, "config", "sessions", "executions", "templates", "keys", "executor/protocol"],
  objects: [...BASE, "config"],
  executor: [...BASE, "config"],
  prove: ["executor/protocol"],
  vitals: [...BASE, "http/health", "scheduler", "provisioners", "stores/sql", "executor/protocol"],
};
const UNBOUND = new Set(["app", "cli", "main", "build"]);

type Import = { from: string; to: string; isTypeOnly: boolean };

async function imports(): Promise<Import[]> {
  const found: Import[] = [];
  for await (const file of new Bun.Glob("**/*.ts").scan(SRC)) {
    const text = await Bun.file(join(SRC, file)).text();
    for (const match of text.matchAll(/^(?:import|export)\s+(type\s+)?[^;]*?from\s+"(\.[^"]+)"/gms)) {
      const to = relative(SRC, join(SRC, dirname(file), match[2] ?? "")).replace(/\.ts$/, "");
      found.push({ from: file.replace(/\.ts$/, ""), to, isTypeOnly: match[1] !== undefined });
    }
  }
  return found;
}

function isAllowed({ from, to }: Import): boolean {
  const home = from.split("/")[0] ?? "";
  if (UNBOUND.has(home) || to.startsWith(`${home}/`) || to.startsWith("..")) return true;
  return (MAY_IMPORT[home] ?? []).some((one) => to === one || to.startsWith(`${one}/`));
}

const all = await imports();

describe("architecture", () => {
  test("imports go downward only", () => {
    const wrong = all.filter((one) => !isAllowed(one)).map(({ from, to }) => `${from} imports ${to}`);
    expect(wrong).toEqual([]);
  });

  test("every folder has its rule", () => {
    const homes = new Set(all.map(({ from }) => from.split("/")[0] ?? ""));
    expect([...homes].filter((home) => !(home in MAY_IMPORT) && !UNBOUND.has(home))).toEqual([]);
  });

  test("no import cycle remains at run time", () => {
    const edges = new Map<string, string[]>();
    for (const { from, to, isTypeOnly } of all) if (!isTypeOnly) edges.set(from, [...(edges.get(from) ?? []), to]);
    const done = new Set<string>();
    const visit = (node: string, path: string[]): string[] | null => {
      if (path.includes(node)) return [...path.slice(path.indexOf(node)), node];
      if (done.has(node)) return null;
      for (const next of edges.get(node) ?? []) {
        const cycle = visit(next, [...path, node]);
        if (cycle !== null) return cycle;
      }
      done.add(node);
      return null;
    };
    expect([...edges.keys()].map((node) => visit(node, [])).filter((cycle) => cycle !== null)).toEqual([]);
  });

  test("only the composition roots name an implementation", () => {
    const implementation =
      /^(stores\/(sqlite|mysql)|objects\/(disk|s3)|provisioners\/(local|kubernetes)\/|executor\/jail\/bwrap$)/;
    const wrong = all.filter(({ from, to, isTypeOnly }) => {
      const home = from.split("/")[0] ?? "";
      return implementation.test(to) && !isTypeOnly && !UNBOUND.has(home) && home !== to.split("/")[0];
    });
    expect(wrong.map(({ from, to }) => `${from} names ${to}`)).toEqual([]);
  });

  test("hardly any file is longer than 300 lines", async () => {
    const long: string[] = [];
    for await (const file of new Bun.Glob("**/*.{ts,py,js,c}").scan(SRC)) {
      const lines = (await Bun.file(join(SRC, file)).text()).split("\n").length;
      if (lines > 330) long.push(`${file}: ${lines}`);
    }
    expect(long).toEqual([]);
  });
});
