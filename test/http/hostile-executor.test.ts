import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { AppError } from "../../src/errors.ts";
import { HttpExecutor } from "../../src/executor/client.ts";
import type { SandboxState } from "../../src/executor/protocol.ts";
import type { Provisioner } from "../../src/provisioners/provisioner.ts";
import { startApi, type Api } from "./fixture.ts";

const MEBIBYTE = 1024 ** 2;

/** What took over a Pod's executor, as far as the control plane can tell: it answers what it likes. */
class HostileExecutor {
  readonly #server = Bun.serve({ port: 0, hostname: "127.0.0.1", idleTimeout: 0, fetch: (one) => this.#answer(one) });
  readonly client = new HttpExecutor({
    url: `http://127.0.0.1:${this.#server.port}`,
    token: "x",
    indexUrl: "http://index.invalid",
  });
  /** Bytes of journals that were taken from it. */
  sent = 0;
  /** Gives a journal's pieces; null: no more. */
  piece: (count: number) => string | Uint8Array | null = () => null;
  /** Whether its journals stay open when there is no more. */
  staysOpen = false;

  #answer(request: Request): Response {
    const { pathname } = new URL(request.url);
    const [, collection, id = "", part] = pathname.split("/");
    if (collection === "sandboxes" && request.method === "PUT") {
      const state: SandboxState = { id, status: "running", workspacePath: "/workspace", timing: {}, pool: null };
      return Response.json(state);
    }
    if (collection === "executions" && (part === "journal" || request.method === "PUT")) return this.#journal();
    return new Response(null, { status: 204 });
  }

  #journal(): Response {
    let count = 0;
    const pull = async (out: ReadableStreamDefaultController<Uint8Array>): Promise<void> => {
      const piece = this.piece(count++);
      if (piece === null && this.staysOpen) await new Promise(() => {});
      if (piece === null) return out.close();
      const bytes = typeof piece === "string" ? Buffer.from(piece) : piece;
      this.sent += bytes.length;
      out.enqueue(bytes);
    };
    return new Response(new ReadableStream({ pull }, { highWaterMark: 0 }));
  }

  async stop(): Promise<void> {
    await this.#server.stop(true);
  }
}

const PENDING = '1 status {"status":"pending","at":"2025-01-01T00:00:00.000Z"}\n';
const RUNNING = '2 status {"status":"running","at":"2025-01-01T00:00:00.000Z"}\n';
const END = {
  status: "completed",
  exit_code: 0,
  reason: null,
  error_message: null,
  started_at: "2025-01-01T00:00:00.000Z",
  completed_at: "2025-01-01T00:00:01.000Z",
  metrics: { duration_ms: 1, cpu_time_ms: 1, peak_memory_mb: 1, io_read_bytes: 1, io_write_bytes: 1 },
  stdout_bytes: 0,
  stderr_bytes: 0,
  stdout_truncated: false,
  stderr_truncated: false,
  artifacts: [],
  timing: {},
};

let hostile: HostileExecutor;
let api: Api;
let lossOf: Provisioner["lossOf"];
let isLost: boolean;

beforeEach(async () => {
  hostile = new HostileExecutor();
  isLost = false;
  lossOf = () => Promise.resolve(null);
  api = await startApi({
    overdueMs: 500,
    provisioner: (usual) => ({
      ...usual,
      ensure: async (session) => ({ ...(await usual.ensure(session)), executor: hostile.client }),
      executorOf: () => {
        if (isLost) throw new AppError("session_not_found", "there is no Pod");
        return Promise.resolve(hostile.client);
      },
      lossOf: (...args) => lossOf?.(...args) ?? Promise.resolve(null),
    }),
  });
});

afterEach(async () => {
  await api.stop();
  await hostile.stop();
});

/** An execution as it is once it has ended. */
async function ran(): Promise<Record<string, unknown>> {
  const session = await api.client.post("/sessions?wait=5", { template_id: "python-basic" });
  const { id } = session.body as { id: string };
  const answer = await api.client.post(`/sessions/${id}/executions?wait=8`, {
    language: "python",
    code: "print(1)",
    timeout: 1,
  });
  return answer.body;
}

/** The journal's whole text, in one piece. */
function says(text: string): void {
  hostile.piece = (count) => (count === 0 ? text : null);
}

const CRASHED = { status: "crashed", reason: "executor_lost", exit_code: null };

describe("an executor that is not ours", () => {
  test("ends an execution as it should", async () => {
    says(`${PENDING}${RUNNING}3 end ${JSON.stringify(END)}\n`);
    expect(await ran()).toMatchObject({ status: "completed", exit_code: 0 });
  });

  test("writes a line without an end: the execution crashes, and memory stays flat", async () => {
    const block = new Uint8Array(MEBIBYTE).fill(97);
    hostile.piece = (count) => (count === 0 ? `${PENDING}${RUNNING}3 stdout {"text":"` : block);
    const before = process.memoryUsage.rss();
    expect(await ran()).toMatchObject({ ...CRASHED, error_message: expect.stringContaining("longer than") });
    expect(process.memoryUsage.rss() - before).toBeLessThan(256 * MEBIBYTE);
    expect(hostile.sent).toBeLessThan(80 * MEBIBYTE);
  }, 20_000);

  test.each<[string, (count: number) => string | null]>([
    ["goes on and on", (count) => `${count + 2} stdout {"text":"${"x".repeat(500)}","offset":0,"at":""}\n`],
    ["says no more", () => null],
  ])(
    "%s: the execution crashes soon after its limit",
    async (_, next) => {
      hostile.staysOpen = true;
      hostile.piece = (count) => (count === 0 ? PENDING + RUNNING : next(count));
      expect(await ran()).toMatchObject({ ...CRASHED, error_message: "the executor did not end it at its limit" });
    },
    20_000,
  );

  test.each([
    ["skips a number", `${PENDING}3 status {"status":"running","at":"2025-01-01T00:00:00.000Z"}\n`],
    ["repeats a number", `${PENDING}${PENDING}`],
    ["makes up a type", `${PENDING}2 script {"x":1}\n`],
    ["writes what is no entry", `${PENDING}<html>\n`],
    ["writes what is not JSON", `${PENDING}2 stdout {"text":\n`],
    ["nests without end", `${PENDING}2 stdout ${"[".repeat(60_000)}\n`],
    ["ends with a status of its own", `${PENDING}2 end ${JSON.stringify({ ...END, status: "promoted" })}\n`],
    ["ends with a reason of its own", `${PENDING}2 end ${JSON.stringify({ ...END, reason: "because" })}\n`],
    ["ends at no time", `${PENDING}2 end ${JSON.stringify({ ...END, completed_at: "x".repeat(5000) })}\n`],
    ["ends without figures", `${PENDING}2 end ${JSON.stringify({ ...END, metrics: null })}\n`],
    [
      "names too many files",
      `${PENDING}2 end ${JSON.stringify({ ...END, artifacts: Array.from({ length: 1001 }, () => ({})) })}\n`,
    ],
    ["starts at no time", `${PENDING}2 status {"status":"running","at":"${"9".repeat(5000)}"}\n`],
    ["prints what is no text", `${PENDING}2 stdout {"text":{"a":1}}\n`],
  ])("%s: the execution crashes", async (_, text) => {
    says(text);
    expect(await ran()).toMatchObject({ ...CRASHED, error_message: expect.stringContaining("can't be trusted") });
  });
});

test("what the cluster says of a lost executor is said of its executions", async () => {
  lossOf = () => Promise.resolve("the Pod ran out of memory");
  hostile.piece = (count) => {
    if (count === 0) return PENDING + RUNNING;
    isLost = true;
    return null;
  };
  expect(await ran()).toMatchObject({
    ...CRASHED,
    error_message: "the executor was lost: the Pod ran out of memory",
  });
});
