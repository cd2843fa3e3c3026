"""Modules that a template names: imported ahead in the zygote, and out of the way of a program that has its own."""

import os
import sys

preloaded = {}  # by name, the file of each module that no program needs to import


def preload(names):
    """Imports what a template names, without the thread pools of numerical libraries: a fork would not have their threads.
    What cannot be imported is said in the log; nothing else that a module prints gets there."""
    limits = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
    path, known, log = list(sys.path), set(sys.modules), os.dup(2)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    sys.path[:0] = filter(None, os.environ.get("PYTHONPATH", "").split(":"))
    os.environ.update(dict.fromkeys(limits, "1"))
    for name in names:
        try:
            __import__(name)
        except BaseException as error:
            os.write(log, ("preload: %s: %r" % (name, error)).encode("utf-8", "replace")[:400] + b"\n")
    for name in limits:
        os.environ.pop(name, None)
    sys.path[:] = path
    os.dup2(log, 2)
    os.close(log)
    os.close(null)
    standard = getattr(sys, "stdlib_module_names", ())
    for name in {name.partition(".")[0] for name in set(sys.modules) - known}.difference(standard):
        preloaded[name] = getattr(sys.modules.get(name), "__file__", None)


def is_any_shadowed(search_path):
    """Whether a directory of the program or one of its layers, which come before `search_path`, has another module of the
    name of one that was imported ahead."""
    if not preloaded:
        return False
    from _frozen_importlib_external import PathFinder

    first = sys.path[: sys.path.index(search_path[0])]
    for name, file in preloaded.items():
        spec = PathFinder.find_spec(name, first)
        if spec is not None and spec.origin is not None and spec.origin != file:
            return True
    return False


def start_over(data):
    """Runs the job in a new interpreter, which has imported nothing."""
    fd = os.memfd_create("job")
    with open(fd, "wb", closefd=False) as file:
        file.write(data)
    os.lseek(fd, 0, os.SEEK_SET)
    os.dup2(fd, 3)
    for fd in (3, 4):
        os.set_inheritable(fd, True)
    zygote = os.path.join(os.path.dirname(os.path.abspath(__file__)), "zygote.py")
    os.execv(sys.executable, [sys.executable, "-s", zygote, "--cold"])
