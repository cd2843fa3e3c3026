import { UsageError } from "./usage-error.ts";

/** The one file that a command is to be given, from its arguments. Throws UsageError. */
export function oneFile(command: string, rest: readonly string[]): string {
  const [file, ...more] = rest;
  if (file !== undefined && !file.startsWith("-") && more.length === 0) return file;
  throw new UsageError(`sandbox ${command} needs the name of one file; see sandbox ${command} --help`);
}
