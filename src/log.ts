import { requestIdInScope } from "./request-scope.ts";

export type LogLevel = "debug" | "info" | "warn" | "error";
export type LogFormat = "json" | "text";
export type LogFields = Record<string, unknown>;

/**
 * One line an event, with the id of the request that led to it. Never pass it user code, output, environment values or
 * keys, nor a message that may quote them.
 */
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

/** For people: the event, then NAME=VALUE, quoted where it would not be one word; below it, indented, where an error is from. */
function asText(at: string, level: LogLevel, event: string, fields: LogFields): string {
  let line = `${at} ${level.toUpperCase().padEnd(5)} ${event.padEnd(18)}`;
  let stacks = "";
  for (const [name, value] of Object.entries(fields)) {
    if (value === undefined) continue;
    line += ` ${name}=${shown(value)}`;
    if (value instanceof Error && level === "error") stacks += framesOf(value);
  }
  return `${line}\n${stacks}`;
}

function shown(value: unknown): string {
  if (value instanceof Error) return shown(said(value));
  if (typeof value === "string" && /^[^\s"=\p{Cc}]+$/u.test(value)) return value;
  return JSON.stringify(value) ?? "undefined";
}

function said(error: Error): string {
  const { cause } = error;
  if (cause === undefined) return `${error.name}: ${error.message}`;
  return `${error.name}: ${error.message} (${cause instanceof Error ? said(cause) : shown(cause)})`;
}

function framesOf(error: Error): string {
  const frames = (error.stack ?? "").split("\n").filter((line) => /^\s+at /.test(line));
  return frames.map((line) => `    ${line.trim()}\n`).join("");
}

/** A log that writes lines of `format` from `level` up, to stdout unless `write` is given; each carries the fields `bound`. */
export function createLog(options: LogOptions, bound: LogFields = {}): Log {
  const write = options.write ?? ((line: string) => void process.stdout.write(line));
  const emit = (level: LogLevel, event: string, fields: LogFields = {}): void => {
    if (RANK[level] < RANK[options.level]) return;
    const at = new Date().toISOString();
    const requestId = requestIdInScope();
    const all = { ...(requestId === undefined ? {} : { request_id: requestId }), ...bound, ...fields };
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
