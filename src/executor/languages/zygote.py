"""Runs Python programs in a sandbox. `zygote.py --zygote [MODULE...]` is the warm interpreter, which init asks for forks
over the SEQPACKET socket on fd 3: a datagram of 4 bytes, the request's number, with five descriptors, answered by the
number and an i32, the pid or a negative errno. `zygote.py --cold` runs one program by itself.

A program has stdin, stdout and stderr on fds 0-2, its job on fd 3 and its result channel on fd 4 (program.py). Python 3.9
to 3.13, standard library only. This file is short because Python compiles it anew at every start."""

import gc
import sys

gc.disable()


def main():
    mode, *preload = sys.argv[1:]
    from forking import ForkHooks

    hooks = ForkHooks()
    import program

    if mode == "--zygote":
        from warm import Zygote

        zygote = Zygote(preload, hooks)
        at_end = zygote.report_imports
    else:
        program.prepare()
        at_end = None
    for name in ("forking", "handler", "importing", "jsontext", "main_source", "preloading", "program", "warm"):
        sys.modules.pop(name, None)  # the program may have modules of these names
    if mode == "--zygote":
        zygote.serve()
    else:
        hooks.release()
    program.run(at_end)


main()
