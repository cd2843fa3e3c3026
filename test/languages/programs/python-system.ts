import { rowsOf, type Program } from "./program.ts";

const python = rowsOf("python");

/** Streams, arguments, environment, processes, threads. */
export const PYTHON_SYSTEM: readonly Program[] = [
  python("output in every script", "print('héllo wörld 漢字 😀 \\u05d0')", { stdout: "héllo wörld 漢字 😀 א\n" }),
  python("names in every script", "größe = 3\n名前 = 4\nprint(größe + 名前)", { stdout: "7\n" }),
  python("bytes that are not UTF-8 do not fail", "import sys\nsys.stdout.buffer.write(b'a\\xff\\xfeb\\n')", {
    stdout: "a\ufffd\ufffdb\n",
  }),
  python(
    "standard input as text",
    "import sys\nfor line in sys.stdin:\n    print(line.strip()[::-1])",
    { stdout: "olléh\ndlrow\n" },
    { stdin: "héllo\nworld\n" },
  ),
  python(
    "standard input as bytes",
    "import sys\nprint(len(sys.stdin.buffer.read()))",
    { stdout: "3000000\n" },
    { stdin: "z".repeat(3_000_000) },
  ),
  python("input()", "name = input('who? ')\nprint('hi', name)", { stdout: "who? hi Ada\n" }, { stdin: "Ada\n" }),
  python("input() at the end of input", "input()", { status: "failed", exitCode: 1, stderr: /EOFError/ }),
  python("no input is empty input", "import sys\nprint(repr(sys.stdin.read()))", { stdout: "''\n" }),
  python("prints of parts join", "import sys\nprint('a', end='')\nsys.stdout.write('b')\nprint('c', flush=True)", {
    stdout: "abc\n",
  }),
  python("stderr is its own stream", "import sys\nprint('out')\nprint('err', file=sys.stderr)", {
    stdout: "out\n",
    stderr: "err\n",
  }),
  python(
    "both streams in order on one pipe",
    `
    import subprocess, sys
    code = "import sys; print(1); print(2, file=sys.stderr); print(3)"
    print(subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout)`,
    { stdout: "1\n2\n3\n\n" },
  ),
  python("two megabytes of output", "for i in range(20000):\n    print('x' * 99)", {
    stdout: `${"x".repeat(99)}\n`.repeat(20000),
  }),
  python("one write of four megabytes", "import sys\nsys.stdout.write('y' * 4_000_000)", {
    stdout: "y".repeat(4_000_000),
  }),
  python(
    "replaced streams come back",
    `
    import contextlib, io
    with contextlib.redirect_stdout(io.StringIO()) as caught:
        print("hidden")
    print(repr(caught.getvalue()))`,
    { stdout: "'hidden\\n'\n" },
  ),
  python(
    "streams know what they are",
    "import sys\nprint(sys.stdout.isatty(), sys.stdout.encoding, sys.stdin.fileno(), sys.stdout.name, sys.__stdout__ is sys.stdout)",
    {
      stdout: "False utf-8 0 <stdout> True\n",
    },
  ),
  python(
    "a reconfigured stream",
    "import sys\nsys.stdout.reconfigure(errors='replace', encoding='ascii')\nprint('é')",
    { stdout: "?\n" },
  ),
  python("arguments", "import sys\nprint(sys.argv)", { stdout: "['main.py']\n" }),
  python("main is main", "if __name__ == '__main__':\n    print('main')", { stdout: "main\n" }),
  python("its file", "import os\nprint(os.path.basename(__file__), os.path.dirname(__file__) == os.getcwd())", {
    stdout: "main.py True\n",
  }),
  python("the directory is the workspace", "import os, sys\nprint(os.getcwd() == sys.path[0] == os.environ['HOME'])", {
    stdout: "True\n",
  }),
  python(
    "globals start clean",
    `
    print(sorted(name for name in globals() if not name.startswith("__")))
    import sys
    print(hasattr(sys.modules["__main__"], "Zygote"), "program" in sys.modules, "warm" in sys.modules)`,
    { stdout: "[]\nFalse False False\n" },
  ),
  python(
    "modules of the workspace",
    `
    import pathlib
    pathlib.Path("helper_mod.py").write_text("VALUE = 42\\ndef fail():\\n    raise ValueError('in helper')\\n")
    import helper_mod
    print(helper_mod.VALUE)
    helper_mod.fail()`,
    {
      status: "failed",
      exitCode: 1,
      stdout: "42\n",
      stderr: /main\.py", line 5[\s\S]*helper_mod\.py", line 3, in fail/,
    },
  ),
  python(
    "a module named as the runner's own",
    `
    import pathlib
    for name in ("program", "warm", "handler", "forking", "zygote"):
        pathlib.Path(name + ".py").write_text(f"ME = '{name}'")
    import program, warm, handler, forking, zygote
    print(program.ME, warm.ME, handler.ME, forking.ME, zygote.ME)
    for name in ("program", "warm", "handler", "forking", "zygote"):
        pathlib.Path(name + ".py").unlink()`,
    { stdout: "program warm handler forking zygote\n" },
  ),
  python(
    "no descriptor is left open",
    `
    import os
    print(sorted(fd for fd in range(3, 256) if os.path.exists(f"/proc/self/fd/{fd}") and fd != 4))`,
    { stdout: "[]\n" },
  ),
  python(
    "variables of the environment",
    "import os\nprint(os.environ['GREETING'], os.getenv('NONE'))",
    { stdout: "grüß dich None\n" },
    { env: { GREETING: "grüß dich" } },
  ),
  python(
    "the environment reaches children",
    "import subprocess\nprint(subprocess.check_output('echo $GREETING', shell=True, text=True))",
    { stdout: "hi\n\n" },
    { env: { GREETING: "hi" } },
  ),
  python(
    "nothing of the host is in the environment",
    "import os\nprint([name for name in os.environ if 'SANDBOX' in name or name in ('DATA_DIR', 'API_KEYS')])",
    { stdout: "[]\n" },
  ),
  python(
    "a time zone",
    "import time\nprint(time.localtime(0).tm_hour, time.tzname[0])",
    { stdout: "9 JST\n" },
    { env: { TZ: "Asia/Tokyo" } },
  ),
  python(
    "variables that an interpreter reads at its start",
    "import sys\nprint(hash('a') == hash('a'), sys.flags.hash_randomization, sys.flags.optimize)",
    { stdout: "True 0 1\n" },
    { env: { PYTHONHASHSEED: "0", PYTHONOPTIMIZE: "1" } },
  ),
  python(
    "warnings as errors",
    "import warnings\nwarnings.warn('x')",
    { status: "failed", exitCode: 1, stderr: /UserWarning: x/ },
    { env: { PYTHONWARNINGS: "error" } },
  ),
  python(
    "a subprocess",
    "import subprocess\nr = subprocess.run(['sh', '-c', 'cat; exit 3'], input='in', capture_output=True, text=True)\nprint(r.stdout, r.returncode)",
    { stdout: "in 3\n" },
  ),
  python(
    "a subprocess inherits the streams",
    "import subprocess\nprint('a')\nsubprocess.run(['echo', 'b'])\nprint('c')",
    { stdout: "a\nb\nc\n" },
  ),
  python("os.system and os.popen", "import os\nprint(os.system('exit 2') >> 8, os.popen('echo p').read())", {
    stdout: "2 p\n\n",
  }),
  python(
    "fork and wait",
    `
    import os
    pid = os.fork()
    if pid == 0:
        print("child")
        os._exit(7)
    print(os.waitpid(pid, 0)[1] >> 8)`,
    { stdout: "child\n7\n" },
  ),
  python(
    "a forked child that comes to the end has no say in the result",
    `
    import os
    def handler(event):
        pid = os.fork()
        if pid == 0:
            return "child"
        os.waitpid(pid, 0)
        return "parent"`,
    { returnValue: "parent" },
  ),
  python(
    "its own session, and a live parent",
    "import os\nprint(os.getsid(0) == os.getpid() == os.getpgid(0), os.getppid() > 0)",
    { stdout: "True True\n" },
  ),
  python(
    "multiprocessing by fork",
    `
    import multiprocessing
    def square(n):
        return n * n
    if __name__ == "__main__":
        with multiprocessing.get_context("fork").Pool(2) as pool:
            print(pool.map(square, range(5)))`,
    { stdout: "[0, 1, 4, 9, 16]\n" },
  ),
  python(
    "multiprocessing by spawn",
    `
    import multiprocessing
    def square(n):
        return n * n
    if __name__ == "__main__":
        with multiprocessing.get_context("spawn").Pool(2) as pool:
            print(pool.map(square, range(5)))`,
    { stdout: "[0, 1, 4, 9, 16]\n" },
  ),
  python(
    "multiprocessing by fork server",
    `
    import multiprocessing
    def work(queue):
        queue.put("from the server")
    if __name__ == "__main__":
        context = multiprocessing.get_context("forkserver")
        queue = context.Queue()
        process = context.Process(target=work, args=(queue,))
        process.start()
        print(queue.get(timeout=20))
        process.join()`,
    { stdout: "from the server\n" },
  ),
  python(
    "multiprocessing with locks, values and managers",
    `
    import multiprocessing
    def add(value, lock, shared):
        for _ in range(100):
            with lock:
                value.value += 1
        shared["done"] = True
    if __name__ == "__main__":
        value, lock = multiprocessing.Value("i", 0), multiprocessing.Lock()
        with multiprocessing.Manager() as manager:
            shared = manager.dict()
            ps = [multiprocessing.Process(target=add, args=(value, lock, shared)) for _ in range(3)]
            [p.start() for p in ps]; [p.join() for p in ps]
            print(value.value, dict(shared))`,
    { stdout: "300 {'done': True}\n" },
  ),
  python(
    "a process pool",
    `
    from concurrent.futures import ProcessPoolExecutor
    def double(n):
        return n * 2
    if __name__ == "__main__":
        with ProcessPoolExecutor(2) as pool:
            print(list(pool.map(double, [1, 2, 3])))`,
    { stdout: "[2, 4, 6]\n" },
  ),
  python(
    "threads",
    `
    import threading
    total, lock = 0, threading.Lock()
    def add():
        global total
        for _ in range(1000):
            with lock:
                total += 1
    ts = [threading.Thread(target=add) for _ in range(8)]
    [t.start() for t in ts]; [t.join() for t in ts]
    print(total, threading.current_thread() is threading.main_thread(), threading.get_native_id())
    import os
    print(threading.get_native_id() == os.getpid() == threading.main_thread().native_id)`,
    { stdout: /^8000 True \d+\nTrue\n$/ },
  ),
  python(
    "a thread pool",
    "from concurrent.futures import ThreadPoolExecutor\nwith ThreadPoolExecutor(4) as p:\n    print(sum(p.map(len, ['a', 'bb', 'ccc'])))",
    { stdout: "6\n" },
  ),
  python(
    "thread locals and timers",
    `
    import threading
    done = threading.Event()
    threading.Timer(0.02, done.set).start()
    print(done.wait(5), threading.active_count() >= 1)`,
    { stdout: "True True\n" },
  ),
  python(
    "asyncio",
    `
    import asyncio
    async def main():
        process = await asyncio.create_subprocess_exec("echo", "sub", stdout=asyncio.subprocess.PIPE)
        out, _ = await process.communicate()
        queue = asyncio.Queue()
        await queue.put(out.decode().strip())
        async with asyncio.Lock():
            print(await asyncio.wait_for(queue.get(), 1))
        print(await asyncio.get_running_loop().run_in_executor(None, lambda: "thread"))
    asyncio.run(main())`,
    { stdout: "sub\nthread\n" },
  ),
  python(
    "sockets on loopback",
    `
    import socket, threading
    server = socket.create_server(("127.0.0.1", 0))
    def serve():
        connection, _ = server.accept()
        connection.sendall(connection.recv(10).upper())
        connection.close()
    threading.Thread(target=serve).start()
    client = socket.create_connection(server.getsockname())
    client.sendall(b"hello")
    print(client.recv(10))`,
    { stdout: "b'HELLO'\n" },
  ),
  python(
    "an interval timer interrupts big writes without loss",
    `
    import signal, sys
    ticks = 0
    def tick(*a):
        global ticks
        ticks += 1
    signal.signal(signal.SIGALRM, tick)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    for _ in range(20):
        sys.stdout.write("w" * 200_000)
    signal.setitimer(signal.ITIMER_REAL, 0)`,
    { stdout: "w".repeat(4_000_000) },
  ),
];
