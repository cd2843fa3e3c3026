"""Forking on behalf of init: the children of the zygote are init's own, so that init can wait for them."""

import os
import sys


class ForkHooks:
    """Keeps from a zygote the hooks that repair locks and lists of threads after a fork: it has one thread, so nothing is
    broken. The programs, which may have more, get them."""

    MODULES = ("threading", "logging", "concurrent.futures.thread")

    def __init__(self):
        self.register, self.kept = os.register_at_fork, []
        os.register_at_fork = self.register_or_keep

    def register_or_keep(self, **hooks):
        if sys._getframe(1).f_globals.get("__name__") in self.MODULES:
            self.kept.append(hooks)
        else:
            self.register(**hooks)

    def run_in_child(self):
        """For a child of a zygote that has more than one thread after all: a library started it."""
        for hooks in self.kept:
            hooks.get("after_in_child", int)()

    def release(self):
        os.register_at_fork = self.register
        for hooks in self.kept:
            self.register(**hooks)


class Forker:
    """Makes children of this process's parent, as `fork` makes children of this process."""

    def __init__(self, hooks):
        import ctypes

        self.c, self.hooks = ctypes, hooks
        self.lib = ctypes.PyDLL(None, use_errno=True)
        self.lib.syscall.restype = ctypes.c_long
        for name in ("PyOS_BeforeFork", "PyOS_AfterFork_Child", "PyOS_AfterFork_Parent"):
            getattr(ctypes.pythonapi, name).restype = None
        numbers = {"x86_64": (56, 273, 274), "aarch64": (220, 99, 100)}.get(os.uname().machine)
        tid = self.thread_id_address() if numbers else 0
        self.clone_args = None
        if tid:
            clone, self.set_robust, get_robust = numbers
            order = (tid, 0) if clone == 56 else (0, tid)
            # CLONE_PARENT | CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID | SIGCHLD
            self.clone_args = [ctypes.c_long(v) for v in (clone, 0x01208000 | 17, 0, 0, *order)]
            self.robust = ctypes.c_void_p(), ctypes.c_size_t()
            self.lib.syscall(get_robust, 0, *map(ctypes.byref, self.robust))

    def thread_id_address(self):
        """Where libc keeps this thread's id, which only libc's own fork updates; 0 when that cannot be told for sure."""
        c, pid = self.c, os.getpid()
        address = c.c_void_p()
        if self.lib.prctl(40, c.byref(address), 0, 0, 0) == 0 and address.value:  # PR_GET_TID_ADDRESS
            return address.value if c.c_int.from_address(address.value).value == pid else 0
        if not os.confstr("CS_GNU_LIBC_VERSION"):
            return 0
        self.lib.pthread_self.restype = c.c_void_p
        start = self.lib.pthread_self()
        found = [start + i for i in range(0, 1024, 4) if c.c_int.from_address(start + i).value == pid]
        return found[0] if len(found) == 1 else 0

    def fork(self):
        """0 in the child, its pid in this process. Raises OSError."""
        if self.clone_args is None or os.stat("/proc/self/task").st_nlink != 3:
            return self.fork_twice()  # libc's own fork runs what libraries with threads of their own rely on
        api = self.c.pythonapi
        api.PyOS_BeforeFork()
        pid = self.lib.syscall(*self.clone_args)
        if pid == 0:
            api.PyOS_AfterFork_Child()
            if self.robust[0]:
                self.lib.syscall(self.set_robust, *self.robust)
            return 0
        api.PyOS_AfterFork_Parent()
        if pid < 0:
            raise OSError(self.c.get_errno(), "clone")
        return pid

    def fork_twice(self):
        """The child is an orphan at once, and so goes to init, which reaps for the whole sandbox."""
        read, write = os.pipe()
        middle = os.fork()
        if middle == 0:
            try:
                child = os.fork()
            except OSError as error:
                child = -error.errno
            if child == 0:
                os.close(read)
                os.close(write)
                self.hooks.run_in_child()
                return 0
            os.write(write, child.to_bytes(4, "little", signed=True))
            os._exit(0)
        os.close(write)
        answer = os.read(read, 4)
        os.close(read)
        os.waitpid(middle, 0)
        pid = int.from_bytes(answer, "little", signed=True)
        if pid <= 0:
            raise OSError(-pid or 11, "fork")
        return pid
