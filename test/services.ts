import { existsSync } from "node:fs";
import { chown, mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { homedir, userInfo } from "node:os";
import { dirname, join } from "node:path";

/** A program that tests start for real; where to find it, and why it is missing when it is. */
type Program = { path: string | null; missing: string };

function find(name: string, places: string[], hint: string): Program {
  const path = Bun.which(name) ?? places.map((place) => join(place, name)).find(existsSync) ?? null;
  return { path, missing: `${name} is not installed: ${hint}` };
}

const MARIADB = find(
  "mariadbd",
  ["/usr/sbin", "/usr/libexec"],
  "apt-get install mariadb-server-core mariadb-client-core",
);
const MINIO = find(
  "minio",
  [join(homedir(), "go/bin"), join(homedir(), ".cache/sandbox-lab/cache/bin")],
  "go install github.com/minio/minio@v0.0.0-20260212201848-7aac2a2c5b7c",
);

const MC = find("mc", [join(homedir(), "go/bin"), join(homedir(), ".cache/sandbox-lab/cache/bin")], "MinIO's client");
const DUMP = find("mariadb-dump", [], "apt-get install mariadb-client");

const PROMETHEUS = find(
  "prometheus",
  [join(homedir(), ".cache/sandbox-tests/prometheus/usr/bin")],
  "bash .ci/setup --tests",
);

/** The tools that back up MariaDB and MinIO. */
export const backupTools = { mc: MC.path ?? "mc", mariadbDump: DUMP.path ?? "mariadb-dump" };

/** The reason why tests with the service can't run here, for their names; null when they can. */
export const mariaDbMissing = MARIADB.path === null ? MARIADB.missing : null;
export const prometheusMissing = PROMETHEUS.path === null ? PROMETHEUS.missing : null;
export const backupToolsMissing = [MC, DUMP].find(({ path }) => path === null)?.missing ?? null;
export const minioMissing = MINIO.path === null ? MINIO.missing : null;

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** Has the command end with this process. */
function bound(argv: string[]): string[] {
  return ["setpriv", "--pdeathsig=KILL", "--", ...argv];
}

/** The same as an ordinary user, to whom the directory is given, also when this is root's: MariaDB refuses root. */
async function unprivileged(directory: string, argv: string[]): Promise<string[]> {
  if (userInfo().uid !== 0) return bound(argv);
  await chown(directory, NOBODY, NOBODY);
  return ["setpriv", `--reuid=${NOBODY}`, `--regid=${NOBODY}`, "--clear-groups", ...bound(argv).slice(1)];
}

const NOBODY = 65_534;

/** A server process on a port of its own that can be killed and brought back on the same data. */
class Service {
  readonly directory: string;
  readonly port: number;
  readonly #argv: string[];
  readonly #env: Record<string, string>;
  readonly #ready: string;
  #child: Bun.Subprocess<"ignore", "ignore", "pipe"> | null = null;

  constructor(directory: string, port: number, argv: string[], env: Record<string, string>, ready: string) {
    this.directory = directory;
    this.port = port;
    this.#argv = argv;
    this.#env = env;
    this.#ready = ready;
  }

  /** Resolves when the server says that it serves. */
  async start(): Promise<void> {
    const argv = ["sh", "-c", 'exec "$@" >&2', "sh", ...this.#argv];
    const env = { PATH: process.env.PATH ?? "/usr/bin:/bin", HOME: this.directory, ...this.#env };
    const child = Bun.spawn(argv, { env, cwd: this.directory, stdin: "ignore", stdout: "ignore", stderr: "pipe" });
    this.#child = child;
    const ready = Promise.withResolvers<void>();
    void watch(child.stderr, this.#ready, ready);
    await ready.promise;
  }

  /** Ends it at once, as a crash does. */
  async kill(): Promise<void> {
    this.#child?.kill("SIGKILL");
    await this.#child?.exited;
  }

  /** Stops it from running and answering, its connections stay open, until `resume`. Resolves when no thread of it runs. */
  async pause(): Promise<void> {
    const pid = this.#child?.pid;
    this.#child?.kill("SIGSTOP");
    for (const task of await readdir(`/proc/${pid}/task`))
      while (!/\) [TZX] /.test(await readFile(`/proc/${pid}/task/${task}/stat`, "utf8").catch(() => ") X ")))
        await Bun.sleep(1);
  }

  resume(): void {
    this.#child?.kill("SIGCONT");
  }

  /** Ends it and removes its data. */
  async stop(): Promise<void> {
    await this.kill();
    await rm(this.directory, { recursive: true });
  }
}

/** Reads all that the server says, so that it never waits for a reader; fails `ready` with it when it ends instead. */
async function watch(
  output: ReadableStream<Uint8Array>,
  sign: string,
  ready: PromiseWithResolvers<void>,
): Promise<void> {
  let said = "";
  const decoder = new TextDecoder();
  for await (const bytes of output) {
    said = (said + decoder.decode(bytes, { stream: true })).slice(-20_000);
    if (said.includes(sign)) ready.resolve();
  }
  ready.reject(new Error(`the server ended: ${said}`));
}

export class MariaDb extends Service {
  /** `options`: further arguments of mariadbd. */
  static async start(options: string[] = []): Promise<MariaDb> {
    const directory = await mkdtemp("/tmp/mariadb-test-");
    const port = await freePort();
    const data = join(directory, "data");
    const install = [
      "mariadb-install-db",
      "--no-defaults",
      `--datadir=${data}`,
      "--auth-root-authentication-method=normal",
    ];
    const installer = await unprivileged(directory, [...install, "--skip-test-db", "--skip-name-resolve"]);
    const installed = Bun.spawn(installer, { cwd: directory, stdin: "ignore", stdout: "pipe", stderr: "inherit" });
    const said = await new Response(installed.stdout).text();
    if ((await installed.exited) !== 0) throw new Error(`mariadb-install-db failed: ${said}`);
    await Bun.write(
      join(directory, "init.sql"),
      `CREATE USER IF NOT EXISTS '${USER}'@'127.0.0.1' IDENTIFIED BY '${PASSWORD}';
GRANT ALL ON *.* TO '${USER}'@'127.0.0.1' WITH GRANT OPTION;
CREATE DATABASE IF NOT EXISTS sandbox CHARACTER SET utf8mb4;
`,
    );
    const argv = [MARIADB.path ?? "mariadbd", "--no-defaults", `--datadir=${data}`, `--port=${port}`];
    argv.push("--bind-address=127.0.0.1", `--socket=${join(directory, "socket")}`, "--skip-name-resolve");
    argv.push(`--init-file=${join(directory, "init.sql")}`, "--innodb-buffer-pool-size=64M", "--skip-log-bin");
    // Commits survive the end of the process, though not of the machine, as each test only ends the former.
    argv.push("--innodb-flush-log-at-trx-commit=2", ...options);
    const server = new MariaDb(directory, port, await unprivileged(directory, argv), {}, "ready for connections");
    await server.start();
    return server;
  }

  url(database = "sandbox", password = PASSWORD): string {
    return `mysql://${USER}:${encodeURIComponent(password)}@127.0.0.1:${this.port}/${database}`;
  }

  get socket(): string {
    return join(this.directory, "socket");
  }
}

const USER = "sandbox";
/** Has what a URL must escape. */
const PASSWORD = "p@ss:w/rd%";

export class Minio extends Service {
  static readonly accessKeyId = "minioadmin";
  static readonly secretAccessKey = "minioadmin";

  static async start(): Promise<Minio> {
    const directory = await mkdtemp("/tmp/minio-test-");
    const port = await freePort();
    const argv = [MINIO.path ?? "minio", "server", join(directory, "data"), "--address", `127.0.0.1:${port}`];
    const env = {
      MINIO_ROOT_USER: Minio.accessKeyId,
      MINIO_ROOT_PASSWORD: Minio.secretAccessKey,
      MINIO_UPDATE: "off",
      MINIO_BROWSER: "off",
    };
    const server = new Minio(directory, port, bound(argv), env, "API: ");
    await server.start();
    return server;
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }
}

/** Prometheus with the tool that stands beside it. */
export class Prometheus extends Service {
  static readonly tool = join(dirname(PROMETHEUS.path ?? ""), "promtool");

  /** Scrapes `target` (HOST:PORT) as `job` four times a second, and evaluates `rules` (what a rule file holds) as often. */
  static async start(job: string, target: string, rules: unknown): Promise<Prometheus> {
    const directory = await mkdtemp("/tmp/prometheus-test-");
    const port = await freePort();
    const config = {
      global: { scrape_interval: "250ms", scrape_timeout: "250ms", evaluation_interval: "250ms" },
      rule_files: ["rules.yaml"],
      scrape_configs: [{ job_name: job, static_configs: [{ targets: [target] }] }],
    };
    // JSON is YAML.
    await Bun.write(join(directory, "rules.yaml"), JSON.stringify(rules));
    await Bun.write(join(directory, "config.yaml"), JSON.stringify(config));
    const argv = [PROMETHEUS.path ?? "prometheus", `--config.file=${join(directory, "config.yaml")}`];
    argv.push(`--web.listen-address=127.0.0.1:${port}`, `--storage.tsdb.path=${join(directory, "data")}`);
    const server = new Prometheus(directory, port, bound(argv), {}, "Server is ready to receive web requests");
    await server.start();
    return server;
  }

  /** What an expression is now: its series with their labels. Throws with what Prometheus says against it. */
  async query(expression: string): Promise<{ metric: Record<string, string>; value: [number, string] }[]> {
    const body = new URLSearchParams({ query: expression });
    const answer = await fetch(`http://127.0.0.1:${this.port}/api/v1/query`, { method: "POST", body });
    const { status, error, data } = (await answer.json()) as QueryAnswer;
    if (status !== "success") throw new Error(`${expression}: ${error}`);
    return data.result;
  }
}

type QueryAnswer = {
  status: string;
  error?: string;
  data: { result: { metric: Record<string, string>; value: [number, string] }[] };
};
