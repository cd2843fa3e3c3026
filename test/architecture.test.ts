import { describe, expect, test } from "bun:test";
import { dirname, join } from "node:path";

const SRC = join(import.meta.dir, "../src");
const MAX_LINES = 300;
/** How many files may be longer, though none by more than a tenth. */
const MAX_LONGER = 3;

/** Each folder (or file beside them) of src and what of the others it may import. */
const BASE = [
  "errors",
  "clock",
  "id",
  "log",
  "version",
  "changes",
  "turns",
  "within",
  "recent",
  "request-scope",
  "json-text",
  "held-buffer",
];
const MAY_IMPORT: Record<string, readonly string[]> = {
  errors: [],
  clock: [],
  id: [],
  log: ["request-scope"],
  "request-scope": [],
  version: [],
  turns: [],
  within: [],
  recent: [],
  "held-buffer": ["errors"],
  "json-scan": [],
  "json-text": ["json-scan"],
  changes: ["executions"],
  setting: [],
  settings: ["log", "setting", "settings-cluster", "settings-limits", "settings-upkeep"],
  "settings-cluster": ["setting"],
  "settings-limits": ["setting"],
  "settings-upkeep": ["setting"],
  config: ["setting", "settings"],
  "process-lock": [],
  "data-directory": ["config", "process-lock"],
  metrics: ["executions", "executor/protocol", "scheduler", "within"],
  "store-failures": ["errors", "stores/sql"],
  templates: [...BASE, "sessions", "executor/protocol"],
  sessions: [...BASE, "executions", "templates", "provisioners/provisioner", "executor/protocol"],
  executions: [...BASE, "sessions", "provisioners/provisioner", "executor/protocol"],
  workspaces: [...BASE, "sessions", "provisioners/provisioner", "executor/protocol", "executor/byte-range", "objects"],
  keys: [...BASE],
  scheduler: [...BASE, "sessions", "executions", "templates", "provisioners/provisioner", "executor/protocol"],
  http: [...BASE, "config", "sessions", "executions", "templates", "workspaces", "keys", "executor/protocol"],
  provisioners: [...BASE, "sessions", "executions", "templates", "executor/protocol", "executor/client"],
  stores: [
    ...BASE,
    "config",
    "sessions",
    "executions",
    "templates",
    "keys",
    "provisioners/warm-pod",
    "scheduler/upkeep",
    "executor/protocol",
  ],
  objects: [...BASE, "config"],
  executor: [...BASE, "config"],
  prove: ["executor/protocol"],
  vitals: [...BASE, "home", "http/health", "objects/objects", "scheduler", "executor/protocol"],
};
/** What puts the others together: bound by no rule, and imported by nobody but each other. */
const ROOTS = new Set(["app", "home", "cli", "main", "build"]);

/** Packages that only some may know, by the start of their name: the domain knows nothing of HTTP or SQL. */
const PACKAGE_HOMES: Record<string, readonly string[]> = {
  elysia: ["http"],
  "bun:sqlite": ["stores", "process-lock"],
  mysql2: ["stores"],
  "@aws-sdk/": ["objects"],
  "@kubernetes/": ["provisioners/kubernetes"],
  "prom-client": ["metrics"],
};

/** What only a root may name: everybody else has the interface. */
const IMPLEMENTATIONS =
  /^(stores\/(sqlite|mysql)|objects\/(disk|s3)|provisioners\/(local|kubernetes)\/|executor\/jail\/bwrap$)/;

type Import = { from: string; to: string; isPackage: boolean; isTypeOnly: boolean };
type Source = { path: string; text: string };

const IMPORT = /^(?:import|export)\s+(type\s+)?(?:[^;"]*?\sfrom\s+)?"([^"]+)"|\bimport\("([^"]+)"\)/gm;

/** Paths are relative to src and have no ending. */
function importsOf({ path, text }: Source): Import[] {
  return [...text.matchAll(IMPORT)].map(([, type, fixed, lazy]) => {
    const target = fixed ?? lazy ?? "";
    const isPackage = !target.startsWith(".");
    const to = isPackage ? target : join(dirname(path), target).replace(/\.ts$/, "");
    return { from: path.replace(/\.ts$/, ""), to, isPackage, isTypeOnly: type !== undefined };
  });
}

const homeOf = (path: string): string => path.split("/")[0] ?? "";
const isWithin = (path: string, place: string): boolean => path === place || path.startsWith(`${place}/`);

function upward(imports: Import[]): string[] {
  const isAllowed = ({ from, to, isPackage }: Import): boolean => {
    const home = homeOf(from);
    if (isPackage || ROOTS.has(home) || home === homeOf(to) || to.startsWith("..")) return true;
    return (MAY_IMPORT[home] ?? []).some((place) => isWithin(to, place));
  };
  return imports.filter((one) => !isAllowed(one)).map(({ from, to }) => `${from} imports ${to}`);
}

function foreignPackages(imports: Import[]): string[] {
  const isAllowed = ({ from, to }: Import): boolean => {
    const homes = Object.entries(PACKAGE_HOMES).find(([name]) => to.startsWith(name))?.[1];
    return homes === undefined || homes.some((place) => isWithin(from, place));
  };
  return imports.filter((one) => one.isPackage && !isAllowed(one)).map(({ from, to }) => `${from} imports ${to}`);
}

function named(imports: Import[]): string[] {
  const isNamed = ({ from, to, isTypeOnly }: Import): boolean =>
    IMPLEMENTATIONS.test(to) && !isTypeOnly && !ROOTS.has(homeOf(from)) && homeOf(from) !== homeOf(to);
  return imports.filter(isNamed).map(({ from, to }) => `${from} names ${to}`);
}

/** Types alone may refer to each other in a circle. */
function cycles(imports: Import[]): string[] {
  const edges = new Map<string, string[]>();
  for (const { from, to, isTypeOnly } of imports) if (!isTypeOnly) edges.set(from, [...(edges.get(from) ?? []), to]);
  const done = new Set<string>();
  const visit = (node: string, path: string[]): string | null => {
    if (path.includes(node)) return [...path.slice(path.indexOf(node)), node].join(" → ");
    if (done.has(node)) return null;
    let cycle: string | null = null;
    for (const next of edges.get(node) ?? []) cycle ??= visit(next, [...path, node]);
    done.add(node);
    return cycle;
  };
  return [...edges.keys()].map((node) => visit(node, [])).filter((cycle) => cycle !== null);
}

function reExports(sources: Source[]): string[] {
  return sources.filter(({ text }) => /^export\s[^;"]*?\sfrom\s+"/m.test(text)).map(({ path }) => path);
}

async function read(pattern: string): Promise<Source[]> {
  const paths = await Array.fromAsync(new Bun.Glob(pattern).scan(SRC));
  return Promise.all(paths.map(async (path) => ({ path, text: await Bun.file(join(SRC, path)).text() })));
}

const sources = await read("**/*.ts");
const all = sources.flatMap(importsOf);

describe("architecture", () => {
  test("imports go downward only", () => expect(upward(all)).toEqual([]));
  test("only some know HTTP, SQL, S3 and Kubernetes", () => expect(foreignPackages(all)).toEqual([]));
  test("only the composition roots name an implementation", () => expect(named(all)).toEqual([]));
  test("no import cycle remains at run time", () => expect(cycles(all)).toEqual([]));
  test("nobody hands on what another file exports", () => expect(reExports(sources)).toEqual([]));

  test("every folder has its rule, and every rule its folder", () => {
    const homes = new Set(sources.map(({ path }) => homeOf(path).replace(/\.ts$/, "")));
    const ruled = new Set([...Object.keys(MAY_IMPORT), ...ROOTS]);
    expect([...homes.symmetricDifference(ruled)]).toEqual([]);
  });

  test("hardly any file is longer than 300 lines", async () => {
    const files = [...sources, ...(await read("**/*.{py,js,c,h}"))];
    const long = files
      .map(({ path, text }) => ({ path, lines: text.trimEnd().split("\n").length }))
      .filter(({ lines }) => lines > MAX_LINES);
    expect(long.filter(({ lines }) => lines > MAX_LINES * 1.1)).toEqual([]);
    expect(long.length > MAX_LONGER ? long : []).toEqual([]);
  });
});

/** What each rule says of a file with this text at this place. */
function judge(path: string, text: string, ...others: Source[]): string[] {
  const tree = [{ path, text }, ...others];
  const imports = tree.flatMap(importsOf);
  const lines = [upward, foreignPackages, named, cycles].flatMap((rule) => rule(imports));
  return [...lines, ...reExports(tree)];
}

describe("the rules see", () => {
  test("nothing wrong with what is right", () => {
    const text =
      'import { x } from "../errors.ts";\nimport {\n  y,\n} from "./execution.ts";\nimport { z } from "node:fs";\n';
    expect(judge("executions/executions.ts", text)).toEqual([]);
    expect(judge("app.ts", 'import { openSqlite } from "./stores/sqlite.ts";')).toEqual([]);
  });

  test("an import upward, over several lines, for a type, lazy, or for its effect", () => {
    for (const text of [
      'import {\n  A,\n  B,\n} from "../http/server.ts";',
      'import type { A } from "../http/server.ts";',
      'const a = await import("../http/server.ts");',
      'import "../http/server.ts";',
    ])
      expect(judge("sessions/sessions.ts", text)).toEqual(["sessions/sessions imports http/server"]);
  });

  test("a domain that knows SQL, and an executor that knows sessions", () => {
    const sql = judge("sessions/sessions.ts", 'import { Database } from "bun:sqlite";');
    expect(sql).toEqual(["sessions/sessions imports bun:sqlite"]);
    const session = judge("executor/sandbox.ts", 'import type { Session } from "../sessions/session.ts";');
    expect(session).toEqual(["executor/sandbox imports sessions/session"]);
  });

  test("an implementation that is named below the roots", () => {
    const text = 'import { openSqlite } from "../stores/sqlite.ts";';
    expect(judge("scheduler/scheduler.ts", text)).toContain("scheduler/scheduler names stores/sqlite");
  });

  test("a cycle at run time, but not one of types", () => {
    const back = { path: "sessions/b.ts", text: 'import { a } from "./a.ts";' };
    const cycle = judge("sessions/a.ts", 'import { b } from "./b.ts";', back);
    expect(cycle).toEqual(["sessions/a → sessions/b → sessions/a"]);
    expect(judge("sessions/a.ts", 'import type { b } from "./b.ts";', back)).toEqual([]);
  });

  test("a barrel", () => {
    expect(judge("sessions/index.ts", 'export * from "./session.ts";')).toEqual(["sessions/index.ts"]);
  });
});
