// Runs one JavaScript or TypeScript program in a sandbox: waits for the job on fd 3 (one JSON document, then EOF), runs it,
// and writes its handler's result to fd 4. Run by the executable itself as Bun; plain JavaScript, because it is started alone.
import { closeSync, existsSync, readSync, writeSync } from "node:fs";
import { createRequire, Module } from "node:module";
import vm from "node:vm";

const JOB_FD = 3;
const RESULT_FD = 4;
const RESULT_LIMIT_BYTES = 10 * 1024 * 1024;
const RUNNER = import.meta.path;
const LOADERS = { javascript: "js", typescript: "ts" };
// How the end of the program's text gives its top-level `handler` to this file.
const HANDLER = Symbol.for("sandbox.handler");
const WRAPPER = "(async function (exports, require, module, __filename, __dirname) {";

let isOver = false;

function writeWhole(fd, bytes) {
  for (let offset = 0; offset < bytes.length;) offset += writeSync(fd, bytes, offset);
}

/**
 * Makes process.stdout and process.stderr as Node has them on pipes: written when write() returns, so that an exit loses
 * nothing. It costs more than all else here, so only programs get it that may use them.
 */
function makeStreams() {
  const { Writable } = require("node:stream");
  for (const [name, fd] of [
    ["stdout", 1],
    ["stderr", 2],
  ]) {
    const stream = new Writable({
      write(chunk, _encoding, done) {
        try {
          writeWhole(fd, chunk);
          done();
        } catch (error) {
          done(error);
        }
      },
      destroy(error, done) {
        done(error);
      },
    });
    Object.assign(stream, { fd, _type: "pipe", _isStdio: true });
    Object.defineProperty(process, name, {
      configurable: true,
      enumerable: true,
      get: () => stream,
    });
  }
  // Redefining them made Bun set the pipes to non-blocking, which the program's own children would inherit.
  const F_GETFL = 3;
  const F_SETFL = 4;
  const O_NONBLOCK = 0o4000;
  const { fcntl } = require("bun:ffi").dlopen("libc.so.6", {
    fcntl: { args: ["i32", "i32", "i32"], returns: "i32" },
  }).symbols;
  for (const fd of [1, 2]) fcntl(fd, F_SETFL, fcntl(fd, F_GETFL, 0) & ~O_NONBLOCK);
}

/** Whether the program, or a file of the workspace that it loads, may use the standard streams as objects. */
function mayUseStreams(code) {
  const loadsFile = /\b(?:from|import|require)\b\s*\(?\s*["'`][./]|\b(?:import|require)\s*\(\s*[^"'`\s)]/;
  return /\bstd(?:out|err)\b/.test(code) || loadsFile.test(code);
}

function readJob() {
  const chunks = [];
  for (;;) {
    const chunk = Buffer.allocUnsafe(65536);
    const size = readSync(JOB_FD, chunk);
    if (size === 0) break;
    chunks.push(chunk.subarray(0, size));
  }
  closeSync(JOB_FD);
  return JSON.parse(Buffer.concat(chunks).toString());
}

/** Makes this process look like the program's own interpreter. */
function enter(job, path) {
  for (const name of Object.keys(process.env))
    if (name.startsWith("BUN_") || name === "DO_NOT_TRACK") delete process.env[name];
  Object.assign(process.env, job.env);
  process.execPath = `${RUNNER.slice(0, RUNNER.lastIndexOf("/"))}/bin/bun`;
  process.argv.splice(0, process.argv.length, process.execPath, path);
  process.execArgv = [];
  Bun.main = path;
  process.on("uncaughtException", (error) => {
    if (process.listenerCount("uncaughtException") === 1) fail(error, path);
  });
  process.on("unhandledRejection", (reason) => {
    if (process.listenerCount("unhandledRejection") === 1) raise(reason, path, "unhandledRejection");
  });
}

/** What Node does with an error that nothing catches. */
function raise(error, path, origin = "uncaughtException") {
  if (process.listenerCount("uncaughtException") > 1) process.emit("uncaughtException", error, origin);
  else fail(error, path);
}

function fail(error, path) {
  if (isOver) return;
  writeResult({ error: { kind: "exception", message: describe(error) } });
  writeWhole(2, Buffer.from(`${explain(error, path)}\n`));
  process.exit(1);
}

function isFromLoader(error) {
  return /^(Build|Resolve)Message$/.test((error?.errors?.[0] ?? error)?.constructor?.name ?? "");
}

function describe(error) {
  try {
    return String(isFromLoader(error) ? error.message : error).slice(0, 2000);
  } catch {
    return "an error that cannot be shown";
  }
}

/** The error with its stack, causes and properties, without the frames of this file. */
function explain(error, path) {
  let text;
  try {
    text = isFromLoader(error) ? Bun.inspect(error).trimEnd() : require("node:util").inspect(error);
  } catch {
    text = describe(error);
  }
  if (!(error instanceof Error) && !isFromLoader(error)) return `Uncaught ${text}`;
  const lines = [];
  for (const line of text.split("\n")) {
    const isOwn = /^\s+at /.test(line) && (line.includes(RUNNER) || /\((native|unknown|node:vm)\b/.test(line));
    if (!isOwn) lines.push(line);
    else if (line.endsWith(" {")) lines.push(`${lines.pop()} {`);
  }
  const inWrapper = new RegExp(`(${RegExp.escape(path)}:1:)(\\d+)`, "g");
  const shift = (all, place, column) => (column > WRAPPER.length ? place + (column - WRAPPER.length) : all);
  return lines.join("\n").replace(inWrapper, shift);
}

/** Runs code without module syntax as CommonJS, with `await` allowed at its top. Undefined when it has module syntax. */
function commonJs(code, path) {
  const text = `${WRAPPER}${code.startsWith("#!") ? "//" : ""}${code}\n;return typeof handler === "undefined" ? undefined : handler;})`;
  let script;
  try {
    script = new vm.Script(text, {
      filename: path,
      importModuleDynamically: vm.constants.USE_MAIN_CONTEXT_DEFAULT_LOADER,
    });
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
  return async () => {
    const module = new Module(path);
    const directory = path.slice(0, path.lastIndexOf("/"));
    module.filename = path;
    module.paths = Module._nodeModulePaths(directory);
    const load = createRequire(path);
    const require = Object.assign((id) => load(id), {
      resolve: load.resolve,
      cache: load.cache,
      extensions: load.extensions,
      main: module,
    });
    process.mainModule = module;
    const handler = await script
      .runInThisContext()
      .call(module.exports, module.exports, require, module, path, directory);
    module.loaded = true;
    return module.exports?.handler ?? handler;
  };
}

/** Runs code as a module that lies at `path`, in no file. */
function esModule(code, path, loader) {
  const isCommon =
    /\bmodule\.exports\b|\bexports(\.|\[)/.test(code) && !/^\s*(import\b(?!\s*[(.])|export\b)/m.test(code);
  const head = isCommon ? "var module = { exports: {} }, exports = module.exports;" : "";
  const found = `typeof handler !== "undefined" ? handler : undefined`;
  const tail = `\n;globalThis[Symbol.for("sandbox.handler")] = ${isCommon ? `module.exports.handler ?? (${found})` : found}; export {};`;
  // A file of that name in the workspace stays importable.
  const key = existsSync(path) ? `${path}?program` : path;
  Bun.plugin({
    name: "program",
    setup(build) {
      const filter = new RegExp(`^${RegExp.escape(key)}$`);
      build.onResolve({ filter }, () => ({ path: key }));
      build.onLoad({ filter }, () => ({ contents: head + code + tail, loader }));
    },
  });
  return async () => {
    const names = await import(key);
    const local = globalThis[HANDLER];
    delete globalThis[HANDLER];
    return names.handler ?? local ?? names.default?.handler;
  };
}

async function callHandler(handler, job) {
  const deadline = performance.now() + job.timeout_ms;
  const context = {
    execution_id: job.execution_id,
    timeout_ms: job.timeout_ms,
    getRemainingTimeInMillis: () => Math.max(0, Math.floor(deadline - performance.now())),
  };
  const value = await handler(job.event, context);
  const text = toJson(value);
  if (text.length <= RESULT_LIMIT_BYTES) return writeResult(`{"return_value":${text}}`);
  throw new InvalidResult(`the value that handler returned is larger than ${RESULT_LIMIT_BYTES / 1024 ** 2} MiB`);
}

class InvalidResult extends Error {}

const NOT_JSON = [Map, Set, WeakMap, WeakSet, Promise, RegExp, ArrayBuffer];

/** `value` as JSON; undefined, NaN and infinities are null. Throws InvalidResult for what JSON has no word for. */
function toJson(value) {
  let text;
  try {
    text = JSON.stringify(value ?? null, (key, item) => {
      const kind = typeof item;
      if (kind === "bigint" || kind === "function" || kind === "symbol") reject(kind, key);
      if (kind === "object" && item !== null)
        for (const type of NOT_JSON) if (item instanceof type) reject(type.name, key);
      return item;
    });
  } catch (error) {
    if (error instanceof InvalidResult || !/cyclic|circular/i.test(String(error))) throw error;
    throw new InvalidResult("the value that handler returned contains itself");
  }
  return text ?? "null";
}

function reject(type, key) {
  throw new InvalidResult(
    `handler returned a value of type ${type}, which is not JSON${key === "" ? "" : ` (at ${JSON.stringify(key)})`}`,
  );
}

/** Writes the one result, an object or its JSON. */
function writeResult(result) {
  if (isOver) return;
  isOver = true;
  try {
    writeWhole(RESULT_FD, Buffer.from(typeof result === "string" ? result : JSON.stringify(result)));
    closeSync(RESULT_FD);
  } catch {
    // The program closed it: then it has no result.
  }
}

function isHandler(value) {
  return typeof value === "function" && !/^class\b/.test(Function.prototype.toString.call(value));
}

async function main() {
  new vm.Script(`${WRAPPER}})`).runInThisContext();
  const job = readJob();
  const loader = LOADERS[job.language];
  const path = `${job.cwd}/main.${loader}`;
  try {
    process.chdir(job.cwd);
  } catch {
    // It may be gone; the program then finds out.
  }
  enter(job, path);
  if (mayUseStreams(job.code)) makeStreams();
  const run = (loader === "js" && commonJs(job.code, path)) || esModule(job.code, path, loader);
  try {
    const handler = await run();
    if (isHandler(handler)) await callHandler(handler, job);
  } catch (error) {
    if (!(error instanceof InvalidResult)) return raise(error, path);
    writeResult({ error: { kind: "invalid_result", message: error.message } });
    process.exit(1);
  }
}

void main();
