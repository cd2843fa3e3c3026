import { BlockList, isIP } from "node:net";

/** One variable of the environment (and the flag of the same name) and how its text becomes a value. */
export type Setting<T> = {
  variable: string;
  /** What it does, one line, with the unit. */
  about: string;
  /** What may be given, as the end of "… is not valid: allowed is". */
  allowed: string;
  /** Its value when it is not given. `env` is the environment, for those that follow from it. */
  fallback: (env: Environment) => T;
  /** The default as documents show it. */
  shownDefault: string;
  /** The value, or undefined when the text is not allowed. The text is trimmed and never empty. */
  parse: (text: string) => T | undefined;
  /** A switch is true when its flag stands without a value. */
  isSwitch: boolean;
  /** How a bad text is shown, for those that hold secrets. */
  redact: (text: string) => string;
};

export type Environment = Readonly<Record<string, string | undefined>>;

type Common<T> = { default: T; about: string; shownDefault?: string };

const shown = (text: string): string => text;
const hidden = (): string => "(hidden)";

function setting<T>(
  variable: string,
  options: Common<T>,
  allowed: string,
  parse: (text: string) => T | undefined,
): Setting<T> {
  return {
    variable,
    about: options.about,
    allowed,
    fallback: () => options.default,
    shownDefault: options.shownDefault ?? (options.default === null ? "unset" : String(options.default)),
    parse,
    isSwitch: false,
    redact: shown,
  };
}

function parseWhole(text: string, min: number, max: number): number | undefined {
  const value = /^[+-]?\d{1,16}$/.test(text) ? Number(text) : Number.NaN;
  return value >= min && value <= max ? value : undefined;
}

type Range = { min: number; max: number };

/** A whole number; the value is the number times `scale`, so that the value can have another unit than the variable. */
export function whole(variable: string, options: Common<number> & Range & { scale?: number }): Setting<number> {
  const { min, max, scale = 1 } = options;
  const parse = (text: string): number | undefined => {
    const value = parseWhole(text, min, max);
    return value === undefined ? undefined : value * scale;
  };
  const base = setting(variable, options, `a whole number from ${min} to ${max}`, parse);
  return { ...base, fallback: () => options.default * scale };
}

/** A whole number, or -1 for no bound at all, which is the default unless one is given; the value is then null. */
export function optionalBound(
  variable: string,
  options: { about: string; max: number; scale?: number; default?: number },
): Setting<number | null> {
  const allowed = `-1 (off) or a whole number from 1 to ${options.max}`;
  const parse = (text: string): number | null | undefined => {
    if (text === "-1") return null;
    const value = parseWhole(text, 1, options.max);
    return value === undefined ? undefined : value * (options.scale ?? 1);
  };
  const { about, default: bound = -1 } = options;
  const fallback = parse(String(bound)) ?? null;
  return setting<number | null>(variable, { default: fallback, shownDefault: String(bound), about }, allowed, parse);
}

/** A number such as 0.5. */
export function decimal(variable: string, options: Common<number> & Range): Setting<number> {
  const { min, max } = options;
  return setting(variable, options, `a number from ${min} to ${max}`, (text) => {
    const value = /^\d{1,9}(\.\d{1,9})?$/.test(text) ? Number(text) : Number.NaN;
    return value >= min && value <= max ? value : undefined;
  });
}

const SWITCH_WORDS: Readonly<Record<string, boolean>> = {
  true: true,
  1: true,
  yes: true,
  on: true,
  false: false,
  0: false,
  no: false,
  off: false,
};

/** A switch, also given as true, yes, on or 1 and their opposites. */
export function onOff(variable: string, options: Common<boolean>): Setting<boolean> {
  const base = setting(variable, options, "true or false", (text) => SWITCH_WORDS[text.toLowerCase()]);
  return { ...base, isSwitch: true };
}

/** One of the choices, in any case of its letters. */
export function oneOf<T extends string>(variable: string, choices: readonly T[], options: Common<T>): Setting<T> {
  return setting(variable, options, choices.join(", "), (text) => choices.find((one) => one === text.toLowerCase()));
}

/** A text that matches `pattern`. */
export function text<T extends string | null>(
  variable: string,
  pattern: RegExp,
  allowed: string,
  options: Common<T>,
): Setting<T | string> {
  return setting<T | string>(variable, options, allowed, (given) => (pattern.test(given) ? given : undefined));
}

/** An http or https URL without a user, or null when it is not given. */
export function httpUrl(variable: string, options: Common<null>): Setting<string | null> {
  return setting<string | null>(variable, options, "an http or https URL of at most 512 characters", (given) => {
    const url = URL.parse(given);
    if (url === null || given.length > 512) return undefined;
    return url.protocol === "http:" || url.protocol === "https:" ? given : undefined;
  });
}

/** Items separated by commas, each of which `parseItem` takes. */
export function list<T>(
  variable: string,
  allowed: string,
  about: string,
  parseItem: (item: string) => T | undefined,
): Setting<T[]> {
  return setting<T[]>(variable, { default: [], shownDefault: "unset", about }, allowed, (given) => {
    const items = given.split(",").map((item) => item.trim());
    const values = items.filter((item) => item !== "").map(parseItem);
    return values.includes(undefined) ? undefined : (values as T[]);
  });
}

/** The same setting, whose text is never shown. */
export function secret<T>(base: Setting<T>): Setting<T> {
  return { ...base, redact: hidden };
}

/** A name of a host or an address, as one can listen on or be reached by. */
export function parseHost(given: string): string | undefined {
  const bare = given.startsWith("[") && given.endsWith("]") ? given.slice(1, -1) : given;
  if (isIP(bare) > 0) return bare.toLowerCase();
  return /^[A-Za-z0-9]([A-Za-z0-9._-]{0,252})$/.test(bare) && !/^[\d.]+$/.test(bare) ? bare.toLowerCase() : undefined;
}

/** An address range, such as 10.20.0.0/16. */
export function parseRange(given: string): string | undefined {
  const [base = "", bits = "", ...more] = given.split("/");
  const family = isIP(base);
  if (family === 0 || more.length > 0 || !/^\d{1,3}$/.test(bits)) return undefined;
  try {
    new BlockList().addSubnet(base, Number(bits), family === 6 ? "ipv6" : "ipv4");
    return given;
  } catch {
    return undefined;
  }
}

/** An origin as browsers send it, or `*`. */
export function parseOrigin(given: string): string | undefined {
  if (given === "*") return given;
  const url = URL.parse(given);
  return url !== null && url.origin !== "null" && url.origin === given.toLowerCase() ? url.origin : undefined;
}

/** A name of a host that clients use, or `*.domain` for all below it, or `*` for any. */
export function parseAllowedHost(given: string): string | undefined {
  if (given === "*") return given;
  return given.startsWith("*.") ? parseHost(given.slice(2)) && given.toLowerCase() : parseHost(given);
}
