import type { Language } from "../executor/protocol.ts";

/**
 * A hostile program. It prints TRIED once its attempt was really made, and ESCAPED with what it got if the attempt worked.
 * Besides that the prover looks from outside whether the host, the neighbour session and the session itself still stand.
 */
export type HostileProgram = {
  name: string;
  group: string;
  /** The property that it tries to break. */
  property: string;
  language: Language;
  /** `{{NAME}}` stands for a fact of the world that the prover set up, see `World`. */
  code: string;
  /** Seconds; exhaustion programs end by it. Default 10. */
  timeout?: number;
  /** Other ends than `completed` that are fine: a limit stopped it. */
  mayEnd?: readonly string[];
  /** The attempt may be stopped before it can say TRIED (it kills its own interpreter, say). */
  mayBeSilent?: boolean;
  /** The session itself need not answer afterwards; the neighbour must. */
  mayLoseSession?: boolean;
  /** What it started lives on in its session, as it may, and would take the next program's share: that gets a new one. */
  leavesProcesses?: boolean;
};

/** What programs may name. All of it exists outside the sandbox while they run. */
export type World = {
  /** A host file with CANARY_TEXT, readable by everybody on the host. */
  CANARY_FILE: string;
  CANARY_TEXT: string;
  DATA_DIR: string;
  /** Another session with a file `secret.txt` that holds CANARY_TEXT. */
  OTHER_SESSION: string;
  /** Pids on the host: a process of the prover's, the executor. */
  HOST_PID: string;
  EXECUTOR_PID: string;
  /** A TCP port on the host's loopback that counts connections, and an abstract unix socket of the host. */
  HOST_PORT: string;
  ABSTRACT_SOCKET: string;
};

/** Python that every Python program starts with: raw system calls and the two words. */
const PRELUDE = `
import ctypes, errno, os, platform, signal, socket, sys, time
_libc = ctypes.CDLL(None, use_errno=True)
_ARM = platform.machine() == "aarch64"
def nr(x86, arm): return arm if _ARM else x86
def call(number, *args):
    ctypes.set_errno(0)
    result = _libc.syscall(ctypes.c_long(number), *[ctypes.c_long(a) if isinstance(a, int) else a for a in args])
    return result, errno.errorcode.get(ctypes.get_errno(), "")
def tried(*what): print("TRIED", *what, flush=True)
def escaped(*what): print("ESCAPED", *what, flush=True)
def readable(path):
    try:
        with open(path, "rb") as f: return f.read(65536)
    except OSError: return None
`;

type Extras = Omit<HostileProgram, "name" | "group" | "property" | "language" | "code">;

/** A Python program of a group. */
export function python(
  group: string,
  name: string,
  property: string,
  code: string,
  extras: Extras = {},
): HostileProgram {
  return { group, name, property, language: "python", code: `${PRELUDE}\n${code.trim()}\n`, ...extras };
}

/** A program that makes one system call, which must not succeed. `args` is Python; `after` runs when it did succeed. */
export function deniedCall(
  name: string,
  numbers: [x86: number, arm: number],
  args: string,
  property: string,
): HostileProgram {
  const code = `
result, error = call(nr(${numbers[0]}, ${numbers[1]}), ${args})
tried(result, error)
if result != -1: escaped("${name} returned", result)`;
  return python("system calls", name, property, code);
}

/** A hostile program of shell code. */
export function shell(
  group: string,
  name: string,
  property: string,
  code: string,
  extras: Extras = {},
): HostileProgram {
  return { group, name, property, language: "shell", code: code.trim(), ...extras };
}
