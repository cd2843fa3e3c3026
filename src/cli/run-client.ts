import { AppError, ERROR_STATUS, type ErrorCode } from "../errors.ts";
import type { ExecutionView, StreamEvent } from "./run.ts";

/** The few calls of the HTTP API that `sandbox run` needs. Methods throw AppError with what the service said. */
export class RunClient {
  readonly #base: string;
  readonly #headers: Record<string, string>;

  constructor(url: string, key: string | undefined) {
    this.#base = `${url.replace(/\/+$/, "")}/api/v1`;
    this.#headers = key === undefined || key === "" ? {} : { Authorization: `Bearer ${key}` };
  }

  async json<T>(method: string, path: string, body?: unknown): Promise<T> {
    const json = body === undefined ? {} : { body: JSON.stringify(body) };
    const response = await this.#fetch(method, path, { ...json, headers: { "Content-Type": "application/json" } });
    return (response.status === 204 ? null : await response.json()) as T;
  }

  async upload(session: string, name: string, file: Bun.BunFile): Promise<void> {
    await this.#fetch("PUT", `/sessions/${session}/files/${encodeURIComponent(name)}`, { body: file });
  }

  async download(session: string, path: string): Promise<Response> {
    return this.#fetch("GET", `/sessions/${session}/files/${path.split("/").map(encodeURIComponent).join("/")}`, {});
  }

  /** The events of an execution after number `after`, byte for byte; ends when the stream does, cut or not. */
  async *events(execution: string, after: number): AsyncGenerator<StreamEvent> {
    const headers = { Accept: "application/x-ndjson", "Last-Event-ID": String(after) };
    const response = await this.#fetch("GET", `/executions/${execution}/events?encoding=base64`, { headers });
    const decoder = new TextDecoder();
    let rest = "";
    for await (const chunk of response.body ?? []) {
      const lines = (rest + decoder.decode(chunk, { stream: true })).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) if (line !== "") yield JSON.parse(line) as StreamEvent;
    }
  }

  cancel(execution: string): Promise<ExecutionView> {
    return this.json("POST", `/executions/${execution}/cancel`);
  }

  async #fetch(
    method: string,
    path: string,
    init: { body?: string | Bun.BunFile; headers?: Record<string, string> },
  ): Promise<Response> {
    let response: Response;
    try {
      response = await fetch(this.#base + path, { method, ...init, headers: { ...this.#headers, ...init.headers } });
    } catch (error) {
      throw new AppError("executor_unavailable", `${this.#base} can't be reached: is sandbox serve running there?`, {
        cause: error,
      });
    }
    if (response.ok) return response;
    const { code, message } = (await response.json().catch(() => ({}))) as { code?: string; message?: string };
    const known = code !== undefined && code in ERROR_STATUS ? (code as ErrorCode) : "internal";
    throw new AppError(known, message ?? `the service answered ${response.status}`);
  }
}
