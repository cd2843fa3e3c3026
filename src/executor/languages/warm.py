"""The warm interpreter that programs are forked from."""

import gc
import os
import sys
import time

import program
from forking import Forker
from preloading import preload

# Imported by every zygote, in this order, while nobody waits.
COMMON = """json linecache traceback threading random math datetime collections io typing time dataclasses functools
itertools contextlib pathlib subprocess tempfile csv decimal string textwrap copy base64 inspect urllib.parse
shutil""".split()
# Imported once a program of the session has imported them: together they cost several MB, which others need not pay.
ON_DEMAND = """statistics uuid hashlib logging asyncio ssl concurrent.futures.thread concurrent.futures.process
multiprocessing.pool multiprocessing.spawn sqlite3 pickle urllib.request zipfile argparse unittest
xml.etree.ElementTree secrets zoneinfo configparser html platform""".split()


def quietly_import(name):
    """A module that cannot be imported is the program's own matter."""
    try:
        __import__(name)
    except Exception:
        pass


NEVER = float("inf")
# Seconds: how long a process made ahead waits for its program; how long one is not made because a program still runs;
# when imports begin; how long requests may keep one from being done.
SPARE_LIFE_S, SPARE_DELAY_S, FIRST_IMPORT_S, IMPORT_PATIENCE_S = 10, 0.02, 1.5, 1
# Seconds: while a machine is busy, imports are put off so long each time, in the first of a zygote's life. Many sandboxes
# that were started at once would otherwise import at once, beside programs and the starts of others.
BUSY_PAUSE_S, BUSY_PATIENCE_S = 0.2, 20


def is_machine_busy():
    """Whether what runs now, this process among it, leaves no processor free."""
    try:
        with open("/proc/loadavg") as file:
            running = int(file.read().split()[3].partition("/")[0])
    except (OSError, ValueError, IndexError):
        return False
    return running >= max(2, os.cpu_count() or 1)


class Zygote:
    """Answers requests. After one it forks ahead for the next, so that most programs find their process made; that one
    goes after a while without use. In between it imports modules, a tenth of the time at most: a machine that starts
    many sandboxes at once runs their programs first."""

    def __init__(self, preload, fork_hooks):
        import mmap
        import select
        import _socket

        self.forker, self.fork_hooks = Forker(fork_hooks), fork_hooks
        self.forker.lib.prctl(4, 0, 0, 0, 0)  # PR_SET_DUMPABLE: closes its memory to the programs
        self.socketpair = _socket.socketpair
        self.socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, 3)
        self.room, self.flags = _socket.CMSG_SPACE(5 * 4), _socket.MSG_CMSG_CLOEXEC
        self.rights = _socket.SOL_SOCKET, _socket.SCM_RIGHTS
        self.poll = select.poll()
        self.poll.register(3, select.POLLIN)
        self.spare = None  # (pid, socket)
        self.program_fd = -1  # pidfd of the last program while it runs
        self.successor = None  # socket
        self.is_rehearsed = False
        self.import_at, self.spare_at, self.drop_at = time.monotonic() + FIRST_IMPORT_S, NEVER, NEVER
        self.busy_until = time.monotonic() + BUSY_PATIENCE_S
        # One byte a module of ON_DEMAND: 1 set by a program that imported it, 2 once it is imported here.
        self.wanted = mmap.mmap(-1, len(ON_DEMAND))
        self.common, self.preload = COMMON[::-1], preload
        self.prepare_program()

    def prepare_program(self):
        """While 0, 1 and 2 are pipes, as they will be in the programs."""
        kept = [os.dup(fd) for fd in (0, 1, 2)]
        read, write = os.pipe()
        for fd in (0, 1, 2):
            os.dup2(write if fd else read, fd)
        program.prepare()
        for fd, old in enumerate(kept):
            os.dup2(old, fd)
        for fd in (read, write, *kept):
            os.close(fd)

    def serve(self):
        """Returns in children, as the program of one request; ends with the socket."""
        while True:
            gc.freeze()
            is_import_due = self.has_imports()
            next_at = min(self.import_at if is_import_due else NEVER, self.spare_at, self.drop_at)
            wait_ms = None if next_at == NEVER else max(0, (next_at - time.monotonic()) * 1000 + 0.5)
            ready = [fd for fd, _ in self.poll.poll(wait_ms)]
            if 3 in ready and self.answer():
                return
            if self.successor and self.successor.fileno() in ready:
                self.hand_over()
                continue
            now = time.monotonic()
            if self.program_fd in ready:
                # Not earlier: the program would wait for this one's processor and for locks of the memory they share.
                self.forget_program()
                self.spare_at = NEVER if self.spare else now
            if is_import_due and now >= self.import_at + (IMPORT_PATIENCE_S if 3 in ready else 0):
                if now < self.busy_until and is_machine_busy():
                    self.import_at = now + BUSY_PAUSE_S
                elif self.import_next():
                    return
            elif 3 not in ready and now >= self.spare_at:
                if self.make_spare():
                    return
            elif now >= self.drop_at:
                self.drop_spare()

    def has_imports(self):
        return bool(self.common or self.preload or 1 in self.wanted[:])

    def import_next(self):
        """True in a program's process, as `serve`."""
        if self.spare:
            self.drop_spare()
            self.spare_at = 0
        started = time.monotonic()
        if self.common:
            quietly_import(self.common.pop())
            if not self.common:
                self.rehearse()
        elif 1 in self.wanted[:]:
            index = self.wanted[:].index(1)
            self.wanted[index] = 2
            quietly_import(ON_DEMAND[index])
        elif self.start_successor():
            return True
        now = time.monotonic()
        self.import_at = now + 9 * (now - started)
        return False

    def rehearse(self):
        """Once for all programs: the first call of `compile` alone makes a hundred types."""
        if not self.is_rehearsed:
            program.rehearse(10)
        self.is_rehearsed = True

    def watch_program(self, pid):
        self.forget_program()
        self.spare_at, self.drop_at = time.monotonic() + SPARE_DELAY_S, NEVER
        try:
            self.program_fd = os.pidfd_open(pid)
        except (AttributeError, OSError):
            return
        self.poll.register(self.program_fd, 1)

    def forget_program(self):
        if self.program_fd >= 0:
            self.poll.unregister(self.program_fd)
            os.close(self.program_fd)
            self.program_fd = -1

    def answer(self):
        """True in the program's process."""
        number, fds = self.receive(self.socket)
        if not number:
            os._exit(0)
        try:
            if len(fds) != 5:
                raise OSError(22, "not five descriptors")
            pid = self.give_to_spare(fds) or self.forker.fork()
        except OSError as error:
            pid = -error.errno
        if pid == 0:
            self.leave_zygote()
            self.become_program(fds)
            return True
        self.socket.send(number + pid.to_bytes(4, "little", signed=True))
        for fd in fds:
            os.close(fd)
        self.watch_program(pid)
        return False

    def receive(self, socket):
        data, ancillary = socket.recvmsg(4, self.room, self.flags)[:2]
        return data, [fd for _, _, part in ancillary for fd in memoryview(part[: len(part) & ~3]).cast("i")]

    def make_spare(self):
        """True in the spare, once it is a program."""
        self.spare_at = NEVER
        self.rehearse()
        mine, its = self.socketpair()
        try:
            pid = self.forker.fork()
        except OSError:
            mine.close()
            its.close()
            return False
        if pid:
            self.spare, self.drop_at = (pid, mine), time.monotonic() + SPARE_LIFE_S
            its.close()
            return False
        mine.close()
        self.leave_zygote()
        os.dup2(its.fileno(), 3, False)  # in the place of the zygote's socket
        program.rehearse(1)
        program.enter(program.parse(program.REHEARSAL))
        gc.collect(1)
        data, fds = self.receive(its)
        if not data:
            os._exit(0)
        its.close()
        self.become_program(fds)
        return True

    def give_to_spare(self, fds):
        """Its pid; None when there is none."""
        spare, self.spare = self.spare, None
        if spare is None:
            return None
        try:
            spare[1].sendmsg([b"p"], [(*self.rights, b"".join(fd.to_bytes(4, sys.byteorder) for fd in fds))])
        except OSError:
            return None
        finally:
            spare[1].close()
        return spare[0]

    def drop_spare(self):
        if self.spare:
            self.spare[1].close()
        self.spare, self.drop_at = None, NEVER

    def leave_zygote(self):
        """What a child can do before it has a program."""
        if self.successor:
            self.successor.close()
        self.socket.detach()
        self.fork_hooks.release()
        os.setsid()
        self.forker.lib.prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: its daemons stay below it

    def become_program(self, fds):
        for target, fd in enumerate(fds):
            os.dup2(fd, target, target < 3)
        os.closerange(5, 64)
        self.forker.lib.prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE: its memory is its own
        try:
            fd = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
            os.write(fd, b"1000")  # it goes before init and the zygote
            os.close(fd)
        except OSError:
            pass
        self.module_count = len(sys.modules)

    def report_imports(self):
        """Called by a program at its end."""
        if len(sys.modules) == self.module_count:
            return
        for index, name in enumerate(ON_DEMAND):
            if name in sys.modules and not self.wanted[index]:
                self.wanted[index] = 1

    def start_successor(self):
        """Imports the named modules, which may take seconds, in a second zygote, while this one answers. True as `serve`."""
        names, self.preload = self.preload, ()
        mine, its = self.socketpair()
        if self.forker.fork() == 0:
            mine.close()
            self.forget_program()
            self.successor = its
            preload(names)
            its.send(b"r")
            if not its.recv(1):
                os._exit(0)
            self.serve()
            return True
        its.close()
        self.successor = mine
        self.poll.register(mine.fileno(), 1)
        return False

    def hand_over(self):
        """Lets the successor answer for as long as it lives."""
        if self.successor.recv(1):
            self.successor.send(b"g")
            self.successor.recv(1)
        self.poll.unregister(self.successor.fileno())
        self.successor.close()
        self.successor = None
