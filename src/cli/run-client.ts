import { AppError, ERROR_STATUS, type ErrorCode } from "../errors.ts";
import { rawJson, type RawJson } from "../json-text.ts";

/** One line of an event stream, and its text. */
export type StreamEvent = { seq: number; type: string; data: Record<string, unknown>; line: string };

/** What of an execution, and of the `end` of its stream, matters here. */
export type ExecutionView = {
  id: string;
  status: string;
  exit_code: number | null;
  reason: string | null;
  error_message: string | null;
  stdout_bytes: number;
  stderr_bytes: number;
};

export type SessionView = { id: string; status: string; error_message: string | null };

type Call = { body?: string | Bun.BunFile; headers?: Record<string, string>; signal?: AbortSignal | undefined };

/** The service sends something at least every 15 s: after this long without a byte the connection is dead. */
const SILENCE_MS = 45_000;

/** The few calls of the HTTP API that `sandbox run` needs. Methods throw AppError with what the service said. */
export class RunClient {
  readonly #url: string;
  readonly #headers: Record<string, string>;

  constructor(url: string, key: string | undefined) {
    this.#url = url.replace(/(\/api\/v1)?\/*$/, "");
    this.#headers = key === undefined || key === "" ? {} : { Authorization: `Bearer ${key}` };
    reachDirectly(new URL(url).hostname);
  }

  json<T>(method: string, path: string, body?: object, signal?: AbortSignal): Promise<T> {
    return this.jsonText(method, path, body === undefined ? undefined : rawJson(body), signal);
  }

  async jsonText<T>(method: string, path: string, body?: RawJson, signal?: AbortSignal): Promise<T> {
    const json = body === undefined ? {} : { body };
    const response = await this.#fetch(method, path, {
      ...json,
      headers: { "Content-Type": "application/json" },
      signal,
    });
    return (response.status === 204 ? null : await response.json()) as T;
  }

  async upload(session: string, name: string, file: Bun.BunFile, signal: AbortSignal): Promise<void> {
    await this.#fetch("PUT", filePath(session, name), { body: file, signal });
  }

  download(session: string, path: string): Promise<Response> {
    return this.#fetch("GET", filePath(session, path), {});
  }

  /** The events of an execution after number `after`, byte for byte; ends when the stream does, cut or not. */
  async *events(execution: string, after: number, signal: AbortSignal): AsyncGenerator<StreamEvent> {
    const silence = new AbortController();
    const timer = setTimeout(() => silence.abort(), SILENCE_MS);
    try {
      const response = await this.#fetch("GET", `/executions/${execution}/events?encoding=base64`, {
        headers: { Accept: "application/x-ndjson", "Last-Event-ID": String(after) },
        signal: AbortSignal.any([signal, silence.signal]),
      });
      const decoder = new TextDecoder();
      let rest = "";
      for await (const chunk of response.body ?? []) {
        timer.refresh();
        const lines = (rest + decoder.decode(chunk, { stream: true })).split("\n");
        rest = lines.pop() ?? "";
        for (const line of lines) if (line !== "") yield { ...(JSON.parse(line) as Omit<StreamEvent, "line">), line };
      }
    } finally {
      clearTimeout(timer);
    }
  }

  cancel(execution: string): Promise<ExecutionView> {
    return this.json("POST", `/executions/${execution}/cancel`);
  }

  async #fetch(method: string, path: string, call: Call): Promise<Response> {
    const { body, headers, signal } = call;
    let response: Response;
    try {
      response = await fetch(`${this.#url}/api/v1${path}`, {
        method,
        headers: { ...this.#headers, ...headers },
        ...(body === undefined ? {} : { body }),
        ...(signal === undefined ? {} : { signal }),
      });
    } catch (error) {
      throw new AppError("executor_unavailable", `${this.#url} can't be reached: is sandbox serve running there?`, {
        cause: error,
      });
    }
    if (response.ok) return response;
    const { code, message } = (await response.json().catch(() => ({}))) as { code?: string; message?: string };
    if (response.status === 401)
      throw new AppError("unauthorized", `${this.#url} needs a key that it knows: set SANDBOX_API_KEY`);
    const known = code !== undefined && code in ERROR_STATUS ? (code as ErrorCode) : "internal";
    throw new AppError(known, message ?? `${this.#url} answered ${response.status} and is no sandbox service`);
  }
}

function filePath(session: string, path: string): string {
  return `/sessions/${encodeURIComponent(session)}/files/${path.split("/").map(encodeURIComponent).join("/")}`;
}

/** Keeps a proxy that HTTP_PROXY names out of calls to this machine. */
function reachDirectly(host: string): void {
  if (host !== "localhost" && host !== "[::1]" && !host.startsWith("127.")) return;
  for (const name of ["NO_PROXY", "no_proxy"])
    process.env[name] = [process.env[name] ?? "", host.replaceAll(/[[\]]/g, "")].filter((one) => one !== "").join(",");
}
