"""One execution of Python code: the job on fd 3 (one JSON document, then EOF), stdin, stdout and stderr on fds 0-2, the
result on fd 4 (one JSON document, or nothing when the code has no handler)."""

import atexit
import builtins
import gc
import io
import os
import sys
import time

from handler import InvalidResult, arguments, call, encode_result
from importing import after_import, whenever_imported
from jsontext import dumps, loads
from main_source import MainSource
from preloading import is_any_shadowed, start_over

HERE = os.path.dirname(os.path.abspath(__file__))
FILE_NAME = "main.py"
USER_SITE = "/.local/lib/python%d.%d/site-packages" % sys.version_info[:2]
search_path = []
main_source = MainSource()

REHEARSAL = b"""{"code": "print('', end='')\\ndef handler(event):\\n    return event",
"event": {"text": "text", "list": [1, 2.5, null, true]}, "timeout_ms": 1000, "env": {}, "cwd": "/"}"""


class LiveWriter(io.BufferedWriter):
    """Output leaves as the program writes it, whole also when a signal interrupts the write."""

    def write(self, data, _write=io.BufferedWriter.write, _flush=io.BufferedWriter.flush):
        size = _write(self, data)
        _flush(self)
        return size


def print_whole(*values, sep=None, end=None, file=None, flush=False):
    """`print` in one write where the built-in makes two, so that a line is one piece of output."""
    for name, value in (("sep", sep), ("end", end)):
        if value is not None and not isinstance(value, str):
            raise TypeError("%s must be None or a string, not %s" % (name, type(value).__name__))
    out = sys.stdout if file is None else file
    if out is None:
        return
    out.write((" " if sep is None else sep).join(map(str, values)) + ("\n" if end is None else end))
    if flush:
        out.flush()


print_whole.__name__ = print_whole.__qualname__ = "print"


def prepare():
    """What can be done before the job is known: a search path without the program's directories, arguments, streams and
    hooks. fds 0-2 must be pipes."""
    layers = os.environ.get("PYTHONPATH", "").split(":")
    search_path[:] = sys.path[:] = [path for path in sys.path[1:] if path not in layers]
    sys.argv[:] = [FILE_NAME]
    sys.orig_argv = [sys.executable, FILE_NAME]
    sys.excepthook = sys.__excepthook__ = print_exception
    sys.unraisablehook = sys.__unraisablehook__ = print_unraisable
    sys.meta_path.insert(0, after_import)
    whenever_imported("threading", print_exceptions_of_threads)
    whenever_imported("linecache", main_source.show_to)
    whenever_imported("multiprocessing.spawn", main_source.write_for)
    builtins.print = print_whole
    for fd, name in enumerate(("stdin", "stdout", "stderr")):
        old = getattr(sys, name)
        raw = io.FileIO(fd, "w" if fd else "r", closefd=False)
        raw.name = "<%s>" % name
        buffer = LiveWriter(raw) if fd else io.BufferedReader(raw)
        stream = io.TextIOWrapper(buffer, old.encoding, old.errors, newline="\n", write_through=fd > 0)
        stream.mode = raw.mode[0]
        setattr(sys, name, stream)
        setattr(sys, "__%s__" % name, stream)


def rehearse(times):
    """Does what every program does, without effect, so that its first time is not the program's."""
    for _ in range(times):
        job = parse(REHEARSAL)
        names = {}
        exec(compile(job["code"], FILE_NAME, "exec", dont_inherit=True), names)
        encode_result(names["handler"](*arguments(names["handler"], job)))
        flush(sys.stdout)


def run(at_end=None):
    """Runs the program and ends the process; calls `at_end` once the code has run."""
    gc.freeze()  # what is here now outlives the program
    with io.FileIO(3) as file:
        data = file.readall()
    job = parse(data)
    enter(job)
    if is_any_shadowed(search_path):
        start_over(data)
    del data
    gc.enable()
    code = run_code(job)
    del job
    if at_end:
        at_end()
    finish(code)


def parse(data):
    """The job. An event may hold integers of any length; the program keeps Python's limit."""
    text = data.decode("utf-8", "surrogatepass")
    try:
        return loads(text)
    except ValueError:
        limit = sys.get_int_max_str_digits()
        sys.set_int_max_str_digits(0)
        try:
            return loads(text)
        finally:
            sys.set_int_max_str_digits(limit)


def enter(job):
    """Makes this interpreter the program's: directory, environment, search path and a fresh main module, whose source can
    be read by name although it is in no file."""
    directory, source = job["cwd"], job["code"]
    try:
        os.chdir(directory)
    except OSError:
        pass
    for name, value in job["env"].items():
        os.environ[name] = value
        if name == "TZ":
            time.tzset()
    sys.path[:] = search_path
    sys.path.insert(0, directory)
    if "PYTHONPATH" in os.environ:
        sys.path[1:1] = filter(None, os.environ["PYTHONPATH"].split(":"))
    user_site = os.environ.get("HOME", "") + USER_SITE
    if os.access(user_site, os.R_OK):
        sys.path.append(user_site)
    path = directory + "/" + FILE_NAME
    main = sys.modules["__main__"] = type(sys)("__main__")
    names = vars(main)
    names["__file__"], names["__builtins__"] = path, builtins
    names["__annotations__"], names["__cached__"] = {}, None
    main_source.name, main_source.path, main_source.source = FILE_NAME, path, source
    if "linecache" in sys.modules:
        main_source.show_to(sys.modules["linecache"])
    if "threading" in sys.modules:
        sys.modules["threading"].main_thread()._native_id = os.getpid()
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed()
    if "multiprocessing.process" in sys.modules:
        sys.modules["multiprocessing.process"].current_process().authkey = os.urandom(32)


def run_code(job):
    """The exit code (negative: the signal to end by); the traceback is printed and the result written by then."""
    pid = os.getpid()
    names = vars(sys.modules["__main__"])
    result = None
    try:
        exec(compile(job["code"], FILE_NAME, "exec", dont_inherit=True), names)
        handler = names.get("handler")
        if callable(handler) and not isinstance(handler, type):
            value = call(handler, job)
            result = encode_result(value)
        code = 0
    except SystemExit as error:
        code = exit_code(error)
    except InvalidResult as error:
        code, result = 1, encode_error("invalid_result", str(error))
    except BaseException as error:
        interrupted = isinstance(error, KeyboardInterrupt)
        error.__traceback__ = user_part(error.__traceback__, FILE_NAME)
        code, result = -2 if interrupted else 1, encode_error("exception", describe(error))
        show(error)
    # A process that the program forked and that came this far has no say in it.
    if result is not None and os.getpid() == pid:
        write_result(result)
    return code


def encode_error(kind, message):
    return dumps({"error": {"kind": kind, "message": message[:2000]}}).encode("utf-8", "backslashreplace")


def write_result(data):
    try:
        with open(4, "wb") as file:
            file.write(data)
    except OSError:
        pass


def exit_code(error):
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return error.code & 0xFF
    print(error.code, file=sys.stderr)
    return 1


def user_part(trace, file_name):
    """The traceback from the program's first frame on."""
    first = trace
    while first is not None and first.tb_frame.f_code.co_filename != file_name:
        first = first.tb_next
    if first is not None:
        return first
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(HERE):
        trace = trace.tb_next
    return trace


def describe(error):
    import traceback

    return traceback.format_exception_only(type(error), error)[-1].strip()


def show(error):
    try:
        sys.excepthook(type(error), error, error.__traceback__)
    except BaseException as second:
        print_exception(type(second), second, second.__traceback__)


def print_exception(kind, error, trace):
    import traceback

    traceback.print_exception(kind, error, trace)


def print_unraisable(args):
    print("%s: %r" % (args.err_msg or "Exception ignored in", args.object), file=sys.stderr)
    print_exception(args.exc_type, args.exc_value, args.exc_traceback)


def print_exceptions_of_threads(threading):
    threading.excepthook = threading.__excepthook__ = print_thread_exception


def print_thread_exception(args):
    if args.exc_type is not SystemExit:
        print("Exception in thread %s:" % (args.thread.name if args.thread else "?"), file=sys.stderr)
        print_exception(args.exc_type, args.exc_value, args.exc_traceback)


def finish(code):
    """What the interpreter does at its end, short of taking itself apart: threads and exit handlers run, the program's
    files are flushed, its objects dropped."""
    threading = sys.modules.get("threading")
    try:
        if threading and (threading.active_count() > 1 or threading._threading_atexits):
            threading._shutdown()
    except BaseException as error:
        show(error)
    atexit._run_exitfuncs()
    if not flush(sys.stdout) and code == 0:
        code = 120
    flush(sys.stderr)
    # Before the collection, which finalizes a file in parts and in any order.
    for thing in gc.get_objects():
        if issubclass(type(thing), (io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom)):
            flush(thing)
    thing = None
    sys.modules.pop("__main__", None)
    sys.last_type = sys.last_value = sys.last_traceback = None
    # A full collection also empties the interpreter's free lists, which costs more than all else here.
    gc.collect(2 if gc.get_count()[2] else 1)
    if code < 0:
        import signal

        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


def flush(stream):
    """False when output of the program was lost."""
    try:
        if stream is not None and not stream.closed:
            stream.flush()
    except Exception:
        return False
    return True
