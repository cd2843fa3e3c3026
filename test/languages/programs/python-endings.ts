import { rowsOf, type Program } from "./program.ts";

const python = rowsOf("python");
const RAISED = {
  status: "failed",
  exitCode: 1,
  reason: "exception",
  absent: /zygote|program\.py|handler\.py/,
} as const;

/** How programs end: exceptions and their tracebacks, exit codes, signals, what runs at the end. */
export const PYTHON_ENDINGS: readonly Program[] = [
  python("an exception keeps earlier output", "print('before')\n\nraise ValueError('no good')", {
    ...RAISED,
    stdout: "before\n",
    stderr:
      /^Traceback \(most recent call last\):\n  File "main\.py", line 3, in <module>\n    raise ValueError\('no good'\)\nValueError: no good\n$/,
    errorMessage: /^ValueError: no good$/,
  }),
  python(
    "an exception in the handler has its own lines",
    `
    def handler(event):
        return inner(event)

    def inner(event):
        return event["missing"]`,
    {
      ...RAISED,
      stderr:
        /^Traceback[^\n]*\n  File "main\.py", line 2, in handler\n(.*\n)*  File "main\.py", line 5, in inner\n(.*\n)*KeyError: 'missing'\n$/,
    },
    { event: {} },
  ),
  python(
    "an exception in an asynchronous handler",
    `
    import asyncio
    async def handler(event):
        await asyncio.sleep(0)
        raise RuntimeError("later")`,
    { ...RAISED, stderr: /^Traceback[^\n]*\n  File "main\.py", line 4, in handler\n/ },
  ),
  python(
    "causes are shown",
    `
    try:
        1 / 0
    except ZeroDivisionError as error:
        raise RuntimeError("outer") from error`,
    { ...RAISED, stderr: /ZeroDivisionError[\s\S]*direct cause[\s\S]*line 4[\s\S]*RuntimeError: outer/ },
  ),
  python("an exception of one's own", "class Broken(Exception):\n    pass\nraise Broken('x')", {
    ...RAISED,
    stderr: /(__main__\.)?Broken: x\n$/,
  }),
  python(
    "an exception whose text cannot be made",
    `
    class Odd(Exception):
        def __str__(self):
            raise ValueError
    raise Odd()`,
    { ...RAISED, stderr: /Odd/ },
  ),
  python("a syntax error shows its line", "x = 1\nif x\n    pass", {
    ...RAISED,
    stderr: /File "main\.py", line 2\n    if x\n/,
    errorMessage: /^SyntaxError/,
  }),
  python("an indentation error", "def f():\nreturn 1", { ...RAISED, stderr: /line 2[\s\S]*IndentationError/ }),
  python("NUL in the code", "x = 1\u0000", { ...RAISED, stderr: /null byte/ }),
  python("an unknown module", "import no_such_module_at_all", {
    ...RAISED,
    stderr: /line 1[\s\S]*ModuleNotFoundError: No module named 'no_such_module_at_all'/,
  }),
  python("endless recursion", "def f():\n    f()\nf()", { ...RAISED, stderr: /RecursionError/ }),
  python("windows line endings count as one", "x = 1\r\ny = 2\r\n1 / 0\r\n", {
    ...RAISED,
    stderr: /line 3[\s\S]*1 \/ 0/,
  }),
  python(
    "print_exc shows source lines",
    `
    import traceback
    try:
        int("x")
    except ValueError:
        traceback.print_exc()`,
    { stderr: /line 3, in <module>\n    int\("x"\)\n/ },
  ),
  python(
    "an exception in a thread does not end the program",
    `
    import threading
    def work():
        raise ValueError("in thread")
    t = threading.Thread(target=work)
    t.start(); t.join()
    print("after")`,
    {
      stdout: "after\n",
      stderr:
        /Exception in thread Thread-1[\s\S]*line 3[\s\S]*raise ValueError\("in thread"\)[\s\S]*ValueError: in thread/,
    },
  ),
  python(
    "an exception hook of one's own",
    "import sys\nsys.excepthook = lambda *a: print('hooked', a[0].__name__)\n1/0",
    { ...RAISED, stdout: "hooked ZeroDivisionError\n" },
  ),
  python(
    "a group of exceptions",
    `
    import sys
    if sys.version_info < (3, 11):
        raise ValueError("one")
    raise ExceptionGroup("many", [ValueError("one"), TypeError("two")])`,
    { ...RAISED, stderr: /ValueError: one/ },
  ),
  python("sys.exit with a code", "import sys\nprint('x')\nsys.exit(3)", {
    status: "failed",
    exitCode: 3,
    reason: "exit_code",
    stdout: "x\n",
    stderr: "",
  }),
  python("sys.exit from the handler", "import sys\ndef handler(event):\n    sys.exit(4)", {
    status: "failed",
    exitCode: 4,
    reason: "exit_code",
  }),
  python("sys.exit with success", "import sys\ndef handler(event):\n    sys.exit()", { returnValue: null }),
  python("sys.exit with a message", "import sys\nsys.exit('bad luck')", {
    status: "failed",
    exitCode: 1,
    reason: "exit_code",
    stderr: "bad luck\n",
  }),
  python("exit codes are bytes", "import sys\nsys.exit(-1)", { status: "failed", exitCode: 255 }),
  python("exit() of site", "exit(5)", { status: "failed", exitCode: 5 }),
  python("os._exit", "import os\nprint('x')\nos._exit(6)", { status: "failed", exitCode: 6, stdout: "x\n" }),
  python("a signal of its own", "import os, signal\nos.kill(os.getpid(), signal.SIGTERM)", {
    status: "failed",
    exitCode: 143,
    reason: "signal",
  }),
  python("abort", "import os\nos.abort()", { status: "failed", exitCode: 134, reason: "signal" }),
  python("a segmentation fault", "import ctypes\nctypes.string_at(0)", {
    status: "failed",
    exitCode: 139,
    reason: "signal",
  }),
  python("an interrupt", "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nimport time; time.sleep(1)", {
    status: "failed",
    exitCode: 130,
    stderr: /KeyboardInterrupt/,
  }),
  python(
    "a handled signal",
    `
    import os, signal
    signal.signal(signal.SIGUSR1, lambda *a: print("got it"))
    os.kill(os.getpid(), signal.SIGUSR1)
    print("alive")`,
    { stdout: "got it\nalive\n" },
  ),
  python("atexit runs", "import atexit\natexit.register(print, 'bye')\nprint('hi')", { stdout: "hi\nbye\n" }),
  python("atexit runs after an exception", "import atexit\natexit.register(print, 'bye')\n1/0", {
    ...RAISED,
    stdout: "bye\n",
  }),
  python(
    "threads are waited for",
    `
    import threading, time
    def work():
        time.sleep(0.1)
        print("thread done")
    threading.Thread(target=work).start()
    print("main done")`,
    { stdout: "main done\nthread done\n" },
  ),
  python(
    "daemon threads are not",
    `
    import threading, time
    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
    print("done")`,
    { stdout: "done\n" },
  ),
  python(
    "open files are flushed",
    `
    import os, subprocess, sys
    f = open("left-open.txt", "w")
    f.write("kept")
    def later():
        pass
    if os.fork() == 0:
        os._exit(0)`,
    { stdout: "" },
  ),
  python("and what they hold is there in the next execution", "print(open('left-open.txt').read())", {
    stdout: "kept\n",
  }),
  python("objects are finalized", "class A:\n    def __del__(self):\n        print('gone')\na = A()\nprint('end')", {
    stdout: "end\ngone\n",
  }),
  python("a closed stdout", "import sys\nprint('x')\nsys.stdout.close()", { stdout: "x\n" }),
  python(
    "a timeout keeps output without a newline",
    "import sys, time\nsys.stdout.write('partial')\ntime.sleep(30)",
    { status: "timeout", exitCode: 124, reason: "timeout", stdout: "partial" },
    { timeout: 1 },
  ),
  python("a memory error", "x = 'a' * (1 << 60)", { status: "failed", exitCode: 1, stderr: /MemoryError/ }),
];
