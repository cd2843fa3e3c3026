import { LANGUAGES, type Language } from "../executor/protocol.ts";
import { checkedJson, type RawJson } from "../json-text.ts";
import type { Environment } from "../setting.ts";
import { UsageError } from "./usage-error.ts";

export type RunOptions = {
  file: string;
  language: Language | null;
  session: string | null;
  template: string | null;
  server: string | null;
  timeoutS: number;
  env: Record<string, string>;
  event: RawJson | null;
  uploads: string[];
  downloads: string[];
  keep: boolean;
  stdin: boolean;
};

export const RUN_HELP = `sandbox run: runs a file in a sandbox and shows its output as it comes

Usage: sandbox run [OPTIONS] FILE|-

  --language L      python, javascript, typescript or shell; else told from the file's ending or first line
  --session ID      run in this session; else a new one is made, and deleted afterwards
  --template T      template of the new session (python-basic, or nodejs-basic for JavaScript and TypeScript)
  --server URL      the service to use (or SANDBOX_URL), with the key in SANDBOX_API_KEY; without one, a service
                    is started for this run alone, on DATA_DIR or on a directory that is removed afterwards
  --timeout S       time limit in seconds (300)
  --env NAME=VALUE  a variable; may be given again
  --event JSON      what handler(event) gets; what it returns is said on standard error
  --stdin           read this command's standard input to its end and hand it to the program as text
  --upload FILE     put a file into the workspace first, under its own name; may be given again
  --download PATH   put a file of the workspace into the current directory afterwards; may be given again
  --keep            leave the new session alive and say its id

Ctrl-C cancels the program; a second one leaves at once.
Exit code: the program's own, which is 128 and the signal's number when a signal or the memory limit ended it (137); 124
after the time limit; 130 when cancelled; 125 when the sandbox was lost, or the service failed or refused; 141 when nobody
reads the output any more; 1 when only a download failed; 2 when this command was used wrongly.
`;

const VARIABLE = /^[A-Za-z_][A-Za-z0-9_]*$/;

const ENDINGS: Record<string, Language> = {
  py: "python",
  js: "javascript",
  mjs: "javascript",
  cjs: "javascript",
  ts: "typescript",
  mts: "typescript",
  sh: "shell",
  bash: "shell",
};

/** Throws UsageError. */
export function parseRunOptions(argv: readonly string[], env: Environment): RunOptions {
  const options: RunOptions = {
    file: "",
    language: null,
    session: null,
    template: null,
    server: null,
    timeoutS: 300,
    env: {},
    event: null,
    uploads: [],
    downloads: [],
    keep: false,
    stdin: false,
  };
  const url = env["SANDBOX_URL"] ?? "";
  if (url !== "") options.server = parseUrl("SANDBOX_URL=", url);
  const files: string[] = [];
  for (let i = 0; i < argv.length; i++) {
    const word = argv[i] ?? "";
    if (!word.startsWith("-") || word === "-") {
      files.push(word);
      continue;
    }
    if (word === "--keep") options.keep = true;
    else if (word === "--stdin") options.stdin = true;
    else {
      const equals = word.indexOf("=");
      const value = equals < 0 ? argv[++i] : word.slice(equals + 1);
      if (value === undefined) throw new UsageError(`${word} needs a value; see sandbox run --help`);
      take(options, equals < 0 ? word : word.slice(0, equals), value);
    }
  }
  const [file, ...more] = files;
  if (file === undefined || more.length > 0)
    throw new UsageError("sandbox run takes one FILE, or - for standard input; see sandbox run --help");
  if (file === "-" && options.stdin)
    throw new UsageError("--stdin can't be used when the program itself is read from standard input");
  const isOwn = options.server === null && (env["DATA_DIR"] ?? "") === "";
  if (isOwn && (options.keep || options.session !== null))
    throw new UsageError("--session and --keep need a service that stays: give --server, SANDBOX_URL or DATA_DIR");
  if (options.session !== null && options.template !== null)
    throw new UsageError("--template has no meaning with --session, which has its template already");
  return { ...options, file };
}

function take(options: RunOptions, flag: string, value: string): void {
  switch (flag) {
    case "--language":
      options.language =
        LANGUAGES.find((one) => one === value) ?? fail(`--language ${value}: allowed is ${LANGUAGES.join(", ")}`);
      return;
    case "--session":
      options.session = value;
      return;
    case "--template":
      options.template = value;
      return;
    case "--server":
      options.server = parseUrl("--server ", value);
      return;
    case "--timeout":
      options.timeoutS = Number(value);
      if (!Number.isInteger(options.timeoutS) || options.timeoutS < 1 || options.timeoutS > 3600)
        fail(`--timeout ${value}: allowed is a whole number from 1 to 3600 seconds`);
      return;
    case "--env": {
      const equals = value.indexOf("=");
      const name = value.slice(0, Math.max(0, equals));
      if (!VARIABLE.test(name)) fail(`--env ${value}: allowed is NAME=VALUE, with letters, digits and _ in NAME`);
      if (name.startsWith("LD_")) fail(`--env ${value}: loader variables (LD_*) are refused`);
      options.env[name] = value.slice(equals + 1);
      return;
    }
    case "--event":
      options.event = parseJson(value);
      return;
    case "--upload":
      options.uploads.push(value);
      return;
    case "--download":
      if (value.startsWith("/") || value.split("/").includes(".."))
        fail(`--download ${value}: allowed is a path in the workspace, without / before it and .. in it`);
      options.downloads.push(value);
      return;
    default:
      fail(`there is no option ${flag}; see sandbox run --help`);
  }
}

function parseUrl(given: string, value: string): string {
  const protocol = URL.parse(value)?.protocol;
  if (protocol === "http:" || protocol === "https:") return value;
  return fail(`${given}${value}: allowed is a URL such as http://127.0.0.1:8000`);
}

function parseJson(text: string): RawJson | null {
  try {
    return checkedJson(text);
  } catch {
    return fail(`--event ${text}: allowed is JSON, such as '{"name": "value"}'`);
  }
}

function fail(message: string): never {
  throw new UsageError(message);
}

/** The language of a program by its file's ending, else by its first line. Throws UsageError when neither tells. */
export function languageOf(file: string, code: string): Language {
  const ending = ENDINGS[file.split(".").at(-1)?.toLowerCase() ?? ""];
  if (ending !== undefined && file.includes(".")) return ending;
  const program = /^#!.*?([a-z]+)[\d.]*\s*$/.exec(code.split("\n", 1)[0] ?? "")?.[1] ?? "";
  const known: Record<string, Language> = {
    python: "python",
    bash: "shell",
    sh: "shell",
    node: "javascript",
    bun: "typescript",
  };
  return known[program] ?? fail(`the language of ${file} can't be told: give it with --language`);
}
