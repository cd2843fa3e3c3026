import { rowsOf, type Program } from "./program.ts";

const ts = rowsOf("typescript");
const RAISED = { status: "failed", exitCode: 1, reason: "exception", absent: /runner\.js/ } as const;

export const TYPESCRIPT: readonly Program[] = [
  ts(
    "types are erased",
    "interface Event { n: number }\nexport const handler = (event: Event): number => event.n as number;",
    { returnValue: 2 },
    { event: { n: 2 } },
  ),
  ts(
    "a top-level function with types",
    "function handler<T extends { n: number }>(event: T): T['n'] { return event.n!; }",
    { returnValue: 3 },
    { event: { n: 3 } },
  ),
  ts("enums", "enum Level { Low = 1, High }\nconst enum C { A = 'a' }\nconsole.log(Level.High, Level[1], C.A);", {
    stdout: "2 Low a\n",
  }),
  ts("namespaces", "namespace Shapes { export const sides = 4; }\nconsole.log(Shapes.sides);", { stdout: "4\n" }),
  ts(
    "generics and overloads",
    "function f(a: string): string;\nfunction f(a: number): number;\nfunction f(a: any): any { return a; }\nclass Box<T> { constructor(readonly value: T) {} }\nconsole.log(f(1), new Box<string>('b').value);",
    { stdout: "1 b\n" },
  ),
  ts(
    "decorators",
    "function log(value: Function, context: any) { return function (this: any, ...args: any[]) { console.log('call', String(context.name)); return value.apply(this, args); }; }\nclass A { @log run() { return 1; } }\nconsole.log(new A().run());",
    { stdout: "call run\n1\n" },
  ),
  ts(
    "satisfies, assertions and unions",
    "type Kind = 'a' | 'b';\nconst map = { a: 1, b: 2 } satisfies Record<Kind, number>;\nlet k: Kind | undefined;\nconsole.log(map[k ?? 'b']);",
    { stdout: "2\n" },
  ),
  ts(
    "imports of types only",
    "import type { Stats } from 'node:fs';\nimport { type PathLike, existsSync } from 'node:fs';\nconst p: PathLike = '/';\nconst s: Stats | null = null;\nconsole.log(existsSync(p), s);",
    { stdout: "true null\n" },
  ),
  ts("top-level await", "const x: number = await Promise.resolve(5);\nconsole.log(x);", { stdout: "5\n" }),
  ts(
    "require and module.exports",
    "const fs = require('fs');\nmodule.exports.handler = (e: any) => [fs.existsSync('/'), e];",
    { returnValue: [true, null] },
  ),
  ts("require alone", "const path = require('path');\nconsole.log(path.join('a', 'b') as string);", {
    stdout: "a/b\n",
  }),
  ts(
    "modules of the workspace",
    "import { writeFileSync } from 'fs';\nwriteFileSync('lib.ts', 'export const n: number = 8; export type T = string;');\nconst { n } = await import('./lib');\nconsole.log(n);",
    { stdout: "8\n" },
  ),
  ts("static imports without an ending", "import { n, type T } from './lib';\nconst t: T = 'x';\nconsole.log(n, t);", {
    stdout: "8 x\n",
  }),
  ts(
    "an exception shows its line, past what is erased",
    "interface A {\n  a: string;\n  b: number;\n}\ntype B = A & { c: 1 };\nenum E { X }\nfunction fail(): never {\n  throw new Error('line 8');\n}\nfail();",
    { ...RAISED, stderr: /Error: line 8\n    at fail \(.*main\.ts:8:\d+\)\n    at .*main\.ts:10:\d+/ },
  ),
  ts(
    "an exception in an exported asynchronous handler",
    "export async function handler(): Promise<void> {\n  await null;\n  throw new RangeError('r');\n}",
    { ...RAISED, stderr: /RangeError: r[\s\S]*main\.ts:3/ },
  ),
  ts(
    "console.error of an error shows its own line",
    "type A = {\n  x: 1;\n};\ntry {\n  throw new Error('shown');\n} catch (e) {\n  console.error(e);\n}",
    { stderr: /main\.ts:5:/ },
  ),
  ts("a syntax error", "const a: number = 1;\nconst b: = 2;", { ...RAISED, stderr: /main\.ts:2/ }),
  ts("type errors do not matter", "const a: number = 'text' as any;\nconst b: string = a;\nconsole.log(b);", {
    stdout: "text\n",
  }),
  ts(
    "private fields, accessors and statics",
    "class A { static #n = 0; #x = 1; get x() { return this.#x; } static { A.#n = 5; } static n() { return A.#n; } }\nconsole.log(new A().x, A.n());",
    { stdout: "1 5\n" },
  ),
  ts(
    "parameter properties and abstract classes",
    "abstract class A { constructor(protected n: number) {} abstract f(): number; }\nclass B extends A { f() { return this.n; } }\nconsole.log(new B(4).f());",
    { stdout: "4\n" },
  ),
  ts("using", "{ using r = { [Symbol.dispose]() { console.log('closed'); } }; console.log(typeof r); }", {
    stdout: "object\nclosed\n",
  }),
  ts("exit codes and output", "process.stdout.write('x\\n' as string);\nprocess.exit(3);", {
    status: "failed",
    exitCode: 3,
    stdout: "x\n",
  }),
  ts("a bigint is not JSON", "export const handler = (): bigint => 5n;", {
    status: "failed",
    exitCode: 1,
    reason: "invalid_result",
    errorMessage: /bigint/,
  }),
];
