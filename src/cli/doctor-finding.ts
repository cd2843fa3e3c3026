/** `weaker`: the service works, but holds less or offers less than it could. `missing`: it can't run code. */
export type Verdict = "ok" | "weaker" | "missing";

/** One thing that was looked at: what, what was found, what to think of it and what helps. */
export type Finding = { name: string; verdict: Verdict; found: string; remedy?: string };

export function ok(name: string, found: string): Finding {
  return { name, verdict: "ok", found };
}

export function weaker(name: string, found: string, remedy: string): Finding {
  return { name, verdict: "weaker", found, remedy };
}

export function missing(name: string, found: string, remedy: string): Finding {
  return { name, verdict: "missing", found, remedy };
}
