import { memberOf, type RawJson } from "../json-text.ts";
import type { ExecutionView, StreamEvent } from "./run-client.ts";

const STREAMS = ["stdout", "stderr"] as const;

/** What a program writes, on this process's own stdout and stderr, byte for byte and as slowly as they take it. */
export class RunOutput {
  readonly #bytes = { stdout: 0, stderr: 0 };
  readonly #broken: () => void;
  #isBroken = false;

  /** `broken` is called once, when the reader of stdout or stderr has gone. */
  constructor(broken: () => void) {
    this.#broken = broken;
  }

  /** Whether the reader of stdout or stderr has gone. */
  get isBroken(): boolean {
    return this.#isBroken;
  }

  async show(event: StreamEvent): Promise<void> {
    if (event.type === "stdout" || event.type === "stderr") {
      const bytes = Uint8Array.fromBase64(String(event.data["data"]));
      this.#bytes[event.type] += bytes.length;
      await this.#write(event.type, bytes);
    }
    if (event.type === "result") await this.say(`handler returned ${resultOf(event) ?? "null"}`);
  }

  /** A line of this command's own, on stderr. */
  say(text: string): Promise<void> {
    return this.#write("stderr", new TextEncoder().encode(`sandbox: ${text.replaceAll("\n", " ")}\n`));
  }

  /** Says which bytes the stream did not carry: those past the journal's limit. */
  async sayWhatIsMissing(end: ExecutionView): Promise<void> {
    for (const stream of STREAMS) {
      const all = end[`${stream}_bytes`];
      const shown = this.#bytes[stream];
      if (shown < all) await this.say(`${stream} was cut: ${shown} of ${all} bytes are shown`);
    }
  }

  #write(stream: "stdout" | "stderr", bytes: Uint8Array): Promise<void> {
    if (this.#isBroken) return Promise.resolve();
    return new Promise((resolve) => {
      process[stream].write(bytes, (error) => {
        if (error instanceof Error && !this.#isBroken) {
          this.#isBroken = true;
          this.#broken();
        }
        resolve();
      });
    });
  }
}

function resultOf({ line }: StreamEvent): RawJson | null {
  const data = memberOf(line, "data");
  return data === null ? null : memberOf(data, "return_value");
}
