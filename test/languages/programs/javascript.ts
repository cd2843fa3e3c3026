import { rowsOf, type Program } from "./program.ts";

const js = rowsOf("javascript");
const RAISED = { status: "failed", exitCode: 1, reason: "exception", absent: /runner\.js/ } as const;
const INVALID = { status: "failed", exitCode: 1, reason: "invalid_result" } as const;

export const JAVASCRIPT: readonly Program[] = [
  js(
    "a top-level function",
    "function handler(event) { return event; }",
    { returnValue: { a: [1, null] } },
    { event: { a: [1, null] } },
  ),
  js("a top-level constant", "const handler = (event) => event.n + 1;", { returnValue: 3 }, { event: { n: 2 } }),
  js(
    "an exported function",
    "export function handler(event) { return event.n; }",
    { returnValue: 2 },
    { event: { n: 2 } },
  ),
  js("an export by another name", "function run() { return 'run'; }\nexport { run as handler };", {
    returnValue: "run",
  }),
  js("a default export with a handler", "export default { handler: () => 'default' };", { returnValue: "default" }),
  js("module.exports.handler", "module.exports.handler = () => 'common';", { returnValue: "common" }),
  js("exports.handler", "exports.handler = async () => 'async common';", { returnValue: "async common" }),
  js("module.exports as an object", "module.exports = { handler: (e) => [e] };", { returnValue: [null] }),
  js(
    "an asynchronous handler",
    "async function handler(e) { await new Promise((r) => setTimeout(r, 10)); return e.n * 2; }",
    { returnValue: 8 },
    { event: { n: 4 } },
  ),
  js(
    "event and context",
    "const handler = (event, context) => [context.timeout_ms, context.getRemainingTimeInMillis() > 0];",
    { returnValue: [30000, true] },
  ),
  js("falsy values come back", "const handler = () => [0, '', false, null, [], {}];", {
    returnValue: [0, "", false, null, [], {}],
  }),
  js("zero", "const handler = () => 0;", { returnValue: 0 }),
  js("undefined, NaN and infinities are null", "const handler = () => [undefined, NaN, Infinity, -Infinity];", {
    returnValue: [null, null, null, null],
  }),
  js("undefined itself is null", "const handler = () => undefined;", { returnValue: null }),
  js("dates and toJSON", "const handler = () => ({ d: new Date(0), o: { toJSON: () => 'mine' } });", {
    returnValue: { d: "1970-01-01T00:00:00.000Z", o: "mine" },
  }),
  js("unicode", "const handler = (e) => e.s + '漢😀';", { returnValue: "é漢😀" }, { event: { s: "é" } }),
  js(
    "a megabyte in and out",
    "const handler = (e) => e.s;",
    { returnValue: "m".repeat(1_000_000) },
    { event: { s: "m".repeat(1_000_000) } },
  ),
  js("a BigInt is not JSON", "const handler = () => ({ deep: [1n] });", { ...INVALID, errorMessage: /bigint/ }),
  js("a function is not JSON", "const handler = () => () => 1;", { ...INVALID, errorMessage: /function/ }),
  js("a Map is not JSON", "const handler = () => ({ m: new Map() });", { ...INVALID, errorMessage: /Map.*"m"/ }),
  js("a value that contains itself is not JSON", "const handler = () => { const a = {}; a.a = a; return a; };", {
    ...INVALID,
    errorMessage: /contains itself/,
  }),
  js("too large a value", "const handler = () => 'x'.repeat(11e6);", {
    ...INVALID,
    errorMessage: /larger than 10 MiB/,
  }),
  js("no handler", "console.log(1 + 1)", { stdout: "2\n", returnValue: null }),
  js("a class of that name is no handler", "class handler {}\nconsole.log('ran')", { stdout: "ran\n" }),
  js("a comment at the end", "const handler = () => 5; // the end", { returnValue: 5 }),
  js("a hash-bang line", "#!/usr/bin/env node\nconsole.log('ran')", { stdout: "ran\n" }),
  js("an exception shows its line", "console.log('before');\n\nthrow new TypeError('boom');", {
    ...RAISED,
    stdout: "before\n",
    stderr: /^TypeError: boom\n    at .*main\.js:3:\d+\)?\n$/,
    errorMessage: /TypeError: boom/,
  }),
  js(
    "an exception in a handler",
    "function handler() {\n  return inner();\n}\nfunction inner() {\n  throw new Error('deep');\n}",
    { ...RAISED, stderr: /Error: deep\n    at inner \(.*main\.js:5:\d+\)\n    at handler \(.*main\.js:2:\d+\)/ },
  ),
  js("an exception in a module", "import 'node:fs';\n\nnull.x;", {
    ...RAISED,
    stderr: /TypeError[^\n]*\n    at .*main\.js:3:\d+/,
  }),
  js(
    "a rejected promise that nothing handles",
    "Promise.reject(new Error('lost'));\nsetTimeout(() => console.log('never'), 500);",
    { ...RAISED, stdout: "", stderr: /Error: lost/ },
  ),
  js("an exception in a timer", "setTimeout(() => {\n  throw new Error('timer');\n}, 5);", {
    ...RAISED,
    stderr: /Error: timer[\s\S]*main\.js:2/,
  }),
  js("a thrown value that is no error", "throw { code: 5 };", { ...RAISED, stderr: /Uncaught.*code: 5/ }),
  js(
    "causes and codes are shown",
    "throw Object.assign(new Error('outer', { cause: new Error('inner') }), { code: 'E1' });",
    { ...RAISED, stderr: /outer[\s\S]*E1[\s\S]*inner|outer[\s\S]*inner[\s\S]*E1/ },
  ),
  js("a syntax error shows its line", "const a = 1;\nconst b = ;", { ...RAISED, stderr: /main\.js:2/ }),
  js("an error inside template text", "const t = `a\n${undefinedName}`;", {
    ...RAISED,
    stderr: /ReferenceError[\s\S]*main\.js:2/,
  }),
  js("a missing module", "import './missing.js';", { ...RAISED, stderr: /missing\.js/ }),
  js("a missing package is not fetched", "import x from 'left-pad';", { ...RAISED, stderr: /left-pad/ }),
  js("exit codes", "console.log('x'); process.exit(7);", {
    status: "failed",
    exitCode: 7,
    reason: "exit_code",
    stdout: "x\n",
  }),
  js("process.exitCode", "process.exitCode = 9;", { status: "failed", exitCode: 9 }),
  js("a signal of its own", "process.kill(process.pid, 'SIGTERM'); setTimeout(() => {}, 1000);", {
    status: "failed",
    exitCode: 143,
    reason: "signal",
  }),
  js(
    "an uncaughtException listener",
    "process.on('uncaughtException', (e) => console.log('caught', e.message));\nsetTimeout(() => { throw new Error('t'); }, 1);",
    { stdout: "caught t\n" },
  ),
  js(
    "an unhandledRejection listener",
    "process.on('unhandledRejection', (e) => console.log('caught', e.message));\nPromise.reject(new Error('r'));",
    { stdout: "caught r\n" },
  ),
  js("exit listeners", "process.on('exit', (c) => console.log('exit', c));", { stdout: "exit 0\n" }),
  js("top-level await", "const x = await Promise.resolve(4);\nconsole.log(await (async () => x + 1)());", {
    stdout: "5\n",
  }),
  js(
    "top-level await with require",
    "const { setTimeout: sleep } = require('node:timers/promises');\nawait sleep(5);\nmodule.exports.handler = () => 'both';",
    { returnValue: "both" },
  ),
  js(
    "modules of node",
    "import fs from 'node:fs';\nimport { join } from 'path';\nimport os from 'os';\nfs.writeFileSync('from-js.txt', 'x');\nconsole.log(fs.readFileSync('from-js.txt', 'utf8'), join('a', 'b'), os.EOL === '\\n');",
    { stdout: "x a/b true\n" },
  ),
  js(
    "modules of the workspace",
    "require('fs').writeFileSync('part.js', 'export const part = 6;');\nrequire('fs').writeFileSync('data.json', '{\"n\": 7}');\nconst { part } = await import('./part.js');\nconsole.log(part, require('./data.json').n);",
    { stdout: "6 7\n" },
  ),
  js(
    "static imports of the workspace",
    "import { part } from './part.js';\nimport data from './data.json';\nconsole.log(part + data.n);",
    { stdout: "13\n" },
  ),
  js("a file named as the program", "require('fs').writeFileSync('main.js', 'export const real = 1;');", {
    stdout: "",
  }),
  js(
    "an import of the file named as the program",
    "import { real } from './main.js';\nimport fs from 'fs';\nconsole.log(real);\nfs.unlinkSync('main.js');",
    { stdout: "1\n" },
  ),
  js(
    "require of such a file",
    "const fs = require('fs');\nfs.writeFileSync('main.js', 'exports.real = 2;');\nconsole.log(require('./main.js').real);\nfs.unlinkSync('main.js');",
    { stdout: "2\n" },
  ),
  js(
    "it is the main module",
    "console.log(require.main === module, __filename.endsWith('/main.js'), __dirname === process.cwd());",
    { stdout: "true true true\n" },
  ),
  js(
    "import.meta",
    "import 'fs';\nconsole.log(import.meta.main, import.meta.url.endsWith('/main.js'), import.meta.dir === process.cwd());",
    { stdout: "true true true\n" },
  ),
  js("sloppy mode works in scripts", "implicit = 5;\nconsole.log(implicit, this === module.exports, 010);", {
    stdout: "5 true 8\n",
  }),
  js("a strict script", "'use strict';\ntry { undeclared = 1; } catch (e) { console.log(e.name); }", {
    stdout: "ReferenceError\n",
  }),
  js("arguments", "console.log(process.argv.length, process.argv[1].endsWith('/main.js'), process.execArgv.length);", {
    stdout: "2 true 0\n",
  }),
  js(
    "the environment",
    "console.log(process.env.GREETING, Object.keys(process.env).filter((k) => k.startsWith('BUN')).length);",
    { stdout: "grüß 0\n" },
    { env: { GREETING: "grüß" } },
  ),
  js("a time zone", "console.log(new Date(0).getHours());", { stdout: "9\n" }, { env: { TZ: "Asia/Tokyo" } }),
  js(
    "standard input",
    "const text = require('fs').readFileSync(0, 'utf8');\nconsole.log(text.length, text.trim());",
    { stdout: "6 héllo\n" },
    { stdin: "héllo\n" },
  ),
  js(
    "standard input as a stream",
    "let n = 0;\nfor await (const chunk of process.stdin) n += chunk.length;\nconsole.log(n);",
    { stdout: "2000000\n" },
    { stdin: "s".repeat(2_000_000) },
  ),
  js(
    "lines of standard input",
    "import readline from 'node:readline';\nfor await (const line of readline.createInterface({ input: process.stdin })) console.log(line.toUpperCase());",
    { stdout: "A\nB\n" },
    { stdin: "a\nb\n" },
  ),
  js(
    "streams of output",
    "process.stdout.write('a');\nconsole.log('b');\nconsole.error('e');\nprocess.stderr.write('f\\n');",
    { stdout: "ab\n", stderr: "e\nf\n" },
  ),
  js("an exit loses no output", "process.stdout.write('o'.repeat(3e6));\nconsole.log('end');\nprocess.exit(0);", {
    stdout: `${"o".repeat(3_000_000)}end\n`,
  }),
  js("much console output", "for (let i = 0; i < 20000; i++) console.log('line', i);", {
    stdout: Array.from({ length: 20_000 }, (_, i) => `line ${i}\n`).join(""),
  }),
  js(
    "child processes",
    "const cp = require('child_process');\nconsole.log(cp.execSync('echo $GREETING').toString().trim(), cp.spawnSync('sh', ['-c', 'exit 4']).status);",
    { stdout: "hi 4\n" },
    { env: { GREETING: "hi" } },
  ),
  js(
    "a child writes where the program does",
    "const { spawnSync } = require('child_process');\nprocess.stdout.write('a\\n');\nspawnSync('sh', ['-c', 'head -c 300000 /dev/zero | tr \"\\\\0\" c'], { stdio: 'inherit' });\nprocess.stdout.write('\\nb\\n');",
    { stdout: `a\n${"c".repeat(300_000)}\nb\n` },
  ),
  js(
    "a forked script",
    "const fs = require('fs'), { fork } = require('child_process');\nfs.writeFileSync('kid.js', 'process.on(\"message\", (m) => { process.send({ got: m }); process.disconnect(); });');\nconst kid = fork('./kid.js');\nkid.on('message', (m) => console.log(m.got.a));\nkid.send({ a: 1 });",
    { stdout: "1\n" },
  ),
  js(
    "the interpreter's own path",
    "const { spawnSync } = require('child_process');\nconsole.log(spawnSync(process.execPath, ['-e', 'console.log(1 + 1)']).stdout.toString());",
    { stdout: "2\n\n" },
  ),
  js(
    "worker threads",
    "const { Worker } = require('worker_threads');\nnew Worker('require(\"worker_threads\").parentPort.postMessage(3 * 3)', { eval: true }).on('message', (n) => console.log(n));",
    { stdout: "9\n" },
  ),
  js(
    "typed arrays and crypto",
    "console.log(new Uint8Array([1, 2]).reduce((a, b) => a + b), require('crypto').createHash('sha256').update('a').digest('hex').slice(0, 8), crypto.randomUUID().length);",
    { stdout: "3 ca978112 36\n" },
  ),
  js(
    "a server on loopback",
    "import http from 'node:http';\nconst server = http.createServer((q, s) => s.end('ok')).listen(0, '127.0.0.1', async () => {\n  console.log(await (await fetch(`http://127.0.0.1:${server.address().port}`)).text());\n  server.close();\n});",
    { stdout: "ok\n" },
  ),
  js("timers run out after the handler", "setTimeout(() => console.log('later'), 20);\nconst handler = () => 'now';", {
    stdout: "later\n",
    returnValue: "now",
  }),
  js(
    "console.error of an error shows its line",
    "const handler = () => {\n  try { null.x; } catch (e) { console.error(e); }\n};",
    { stderr: /main\.js:2:/ },
  ),
  js(
    "a timeout keeps output",
    "process.stdout.write('partial'); setInterval(() => {}, 1000);",
    { status: "timeout", exitCode: 124, stdout: "partial" },
    { timeout: 1 },
  ),
];
