/** Structured log: one line an event on the given sink. Never pass user code, output, environment values or keys. */
export type LogLevel = "debug" | "info" | "warn" | "error";
export type LogFormat = "json" | "text";
export type LogFields = Record<string, unknown>;

export interface Log {
  debug(event: string, fields?: LogFields): void;
  info(event: string, fields?: LogFields): void;
  warn(event: string, fields?: LogFields): void;
  error(event: string, fields?: LogFields): void;
  /** A log whose lines all carry `fields`. */
  with(fields: LogFields): Log;
}

const RANK: Record<LogLevel, number> = { debug: 10, info: 20, warn: 30, error: 40 };

export type LogOptions = { level: LogLevel; format: LogFormat; write?: (line: string) => void };

function printable(value: unknown): unknown {
  if (!(value instanceof Error)) return value;
  const cause = value.cause === undefined ? {} : { cause: printable(value.cause) };
  return { name: value.name, message: value.message, stack: value.stack, ...cause };
}

function asText(at: string, level: LogLevel, event: string, fields: LogFields): string {
  const pairs = Object.entries(fields).map(([key, value]) => {
    const shown = value instanceof Error ? `${value.name}: ${value.message}` : value;
    return ` ${key}=${typeof shown === "string" ? shown : JSON.stringify(shown)}`;
  });
  return `${at} ${level.toUpperCase().padEnd(5)} ${event}${pairs.join("")}\n`;
}

export function createLog(options: LogOptions, bound: LogFields = {}): Log {
  const write = options.write ?? ((line: string) => void process.stdout.write(line));
  const emit = (level: LogLevel, event: string, fields: LogFields = {}): void => {
    if (RANK[level] < RANK[options.level]) return;
    const at = new Date().toISOString();
    const all = { ...bound, ...fields };
    if (options.format === "text") return write(asText(at, level, event, all));
    const plain = Object.fromEntries(Object.entries(all).map(([k, v]) => [k, printable(v)]));
    write(`${JSON.stringify({ at, level, event, ...plain })}\n`);
  };
  return {
    debug: (event, fields) => emit("debug", event, fields),
    info: (event, fields) => emit("info", event, fields),
    warn: (event, fields) => emit("warn", event, fields),
    error: (event, fields) => emit("error", event, fields),
    with: (fields) => createLog(options, { ...bound, ...fields }),
  };
}
