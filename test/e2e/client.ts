/** A small client of the HTTP API for tests: thin enough that a test still shows what is sent and what comes back. */

export type Json = Record<string, any>; // oxlint-disable-line typescript/no-explicit-any -- what the server sent is what a test looks at

export type Answer = { status: number; headers: Headers; body: Json };

/** One event of a stream: SSE's id, event and parsed data. */
export type StreamEvent = { seq: number; type: string; data: Json };

export class Client {
  readonly base: string;
  readonly headers: Record<string, string>;

  constructor(url: string, headers: Record<string, string> = {}) {
    this.base = `${url.replace(/\/$/, "")}/api/v1`;
    this.headers = headers;
  }

  /** Sends JSON (or nothing) and reads JSON (or nothing). */
  async call(method: string, path: string, body?: unknown, headers: Record<string, string> = {}): Promise<Answer> {
    const response = await this.raw(method, path, body === undefined ? undefined : JSON.stringify(body), {
      ...(body === undefined ? {} : { "Content-Type": "application/json" }),
      ...headers,
    });
    const text = await response.text();
    const parsed = text === "" ? {} : (JSON.parse(text) as Json);
    return { status: response.status, headers: response.headers, body: parsed };
  }

  raw(
    method: string,
    path: string,
    body?: Bun.BodyInit,
    headers: Record<string, string> = {},
    signal?: AbortSignal,
  ): Promise<Response> {
    return fetch(this.base + path, {
      method,
      headers: { ...this.headers, ...headers },
      ...(body === undefined ? {} : { body }),
      ...(signal === undefined ? {} : { signal }),
    });
  }

  get(path: string): Promise<Answer> {
    return this.call("GET", path);
  }

  post(path: string, body: unknown = {}, headers: Record<string, string> = {}): Promise<Answer> {
    return this.call("POST", path, body, headers);
  }

  /** A running session's id. */
  async session(fields: Json = {}): Promise<string> {
    const { status, body } = await this.post("/sessions?wait=30", { template_id: "python-basic", ...fields });
    if (status !== 201 || body["status"] !== "running")
      throw new Error(`no session: ${status} ${JSON.stringify(body)}`);
    return body["id"] as string;
  }

  /** Runs code to its end and returns the execution. */
  async run(session: string, code: string, fields: Json = {}): Promise<Json> {
    const { status, body } = await this.post(`/sessions/${session}/executions?wait=60`, {
      language: "python",
      code,
      ...fields,
    });
    if (status !== 200) throw new Error(`not run: ${status} ${JSON.stringify(body)}`);
    return body;
  }

  /** Submits code and returns the execution's id at once. */
  async submit(session: string, code: string, fields: Json = {}): Promise<string> {
    const { status, body } = await this.post(`/sessions/${session}/executions`, {
      language: "python",
      code,
      ...fields,
    });
    if (status !== 201) throw new Error(`not submitted: ${status} ${JSON.stringify(body)}`);
    return body["id"] as string;
  }

  /** The events of an execution as SSE, live. Ends when the server closes the stream. */
  async *events(
    execution: string,
    options: { after?: number; query?: string; signal?: AbortSignal } = {},
  ): AsyncGenerator<StreamEvent> {
    const headers = {
      Accept: "text/event-stream",
      ...(options.after === undefined ? {} : { "Last-Event-ID": String(options.after) }),
    };
    const response = await this.raw(
      "GET",
      `/executions/${execution}/events${options.query ?? ""}`,
      undefined,
      headers,
      options.signal,
    );
    if (response.status !== 200) throw new Error(`no stream: ${response.status} ${await response.text()}`);
    yield* readSse(response);
  }

  /** All events of an execution, until it ended. */
  async allEvents(execution: string): Promise<StreamEvent[]> {
    return Array.fromAsync(this.events(execution));
  }
}

/** Parses a response of server-sent events as a browser does: comments skipped, fields by line, an event a blank line. */
export async function* readSse(response: Response): AsyncGenerator<StreamEvent> {
  if (response.body === null) return;
  let rest = "";
  for await (const chunk of response.body.pipeThrough(new TextDecoderStream())) {
    const blocks = (rest + chunk).split("\n\n");
    rest = blocks.pop() ?? "";
    for (const block of blocks) {
      const event = parseBlock(block);
      if (event !== null) yield event;
    }
  }
}

function parseBlock(block: string): StreamEvent | null {
  let seq = Number.NaN;
  let type = "message";
  const data: string[] = [];
  for (const line of block.split("\n")) {
    if (line.startsWith("id: ")) seq = Number(line.slice(4));
    else if (line.startsWith("event: ")) type = line.slice(7);
    else if (line.startsWith("data: ")) data.push(line.slice(6));
  }
  return data.length === 0 ? null : { seq, type, data: JSON.parse(data.join("\n")) as Json };
}

/** The text of one output stream, after a check that numbers and offsets leave no gap: nothing is missing or doubled. */
export function provenOutput(events: StreamEvent[], stream: "stdout" | "stderr", firstSeq = 1): string {
  let text = "";
  let bytes = 0;
  for (const [index, event] of events.entries()) {
    if (event.seq !== firstSeq + index)
      throw new Error(`event ${index} has number ${event.seq}, not ${firstSeq + index}`);
    if (event.type !== stream) continue;
    if (firstSeq === 1 && event.data["offset"] !== bytes)
      throw new Error(`offset ${event.data["offset"]} is not ${bytes}`);
    text += event.data["text"] as string;
    bytes = (event.data["offset"] as number) + Buffer.byteLength(event.data["text"] as string);
  }
  return text;
}
