"""Runs programs as init does, without a sandbox around them: fds 0-4 are pipes, Python comes from a zygote that answers over
a SEQPACKET socket. One JSON request a line on stdin, one JSON answer a line on stdout; bytes are base64.

    {"zygote": {argv, env, cwd}}                                                          starts the zygote; answers {"pid"}
    {"run": {mode, argv, env, cwd, job, stdin, timeout_s}}
        answers {"status": wait status, "stdout", "stderr", "result", "ms": from request to exit, "timeout": bool}"""

import array
import base64
import ctypes
import fcntl
import json
import os
import selectors
import signal
import socket
import sys
import time


class Harness:
    def __init__(self):
        self.zygote = None
        self.pid = 0

    def start_zygote(self, command):
        mine, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        pid = os.fork()
        if pid == 0:
            os.setsid()
            os.dup2(os.open(os.devnull, os.O_RDWR), 0)
            os.dup2(2, 1)
            os.dup2(its.fileno(), 3)
            os.closerange(4, 64)
            os.chdir(command["cwd"])
            os.execve(command["argv"][0], command["argv"], command["env"])
        its.close()
        self.pid, self.zygote = pid, mine

    def stop_zygote(self):
        if self.pid:
            self.zygote.close()
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.pid = 0

    def run(self, plan):
        start = time.perf_counter()
        pipes = [os.pipe() for _ in range(5)]
        inside = [pipes[0][0], pipes[1][1], pipes[2][1], pipes[3][0], pipes[4][1]]
        outside = [pipes[0][1], pipes[1][0], pipes[2][0], pipes[3][1], pipes[4][0]]
        if plan["mode"] == "zygote":
            self.zygote.sendmsg([(7).to_bytes(4, "little")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", inside))])
            pid = 0
        else:
            pid = self.execute(plan, inside)
        for fd in inside:
            os.close(fd)
        for fd in outside:
            os.set_blocking(fd, False)
        if not pid:
            answer = self.zygote.recv(8)
            pid = int.from_bytes(answer[4:], "little", signed=True)
            if answer[:4] != (7).to_bytes(4, "little") or pid <= 0:
                raise OSError(-pid, "the zygote does not fork")
        return self.follow(plan, pid, outside, start)

    def execute(self, plan, inside):
        pid = os.fork()
        if pid == 0:
            os.setsid()
            for target, fd in enumerate([fcntl.fcntl(fd, fcntl.F_DUPFD, 20) for fd in inside]):
                os.dup2(fd, target)
            os.closerange(5, 64)
            for number in (signal.SIGPIPE, signal.SIGXFSZ):
                signal.signal(number, signal.SIG_DFL)
            os.chdir(plan["cwd"])
            os.execve(plan["argv"][0], plan["argv"], plan["env"])
        return pid

    def follow(self, plan, pid, outside, start):
        stdin, stdout, stderr, job, result = outside
        send = {stdin: base64.b64decode(plan["stdin"]), job: base64.b64decode(plan["job"] or "")}
        read = {stdout: [], stderr: [], result: []}
        selector = selectors.DefaultSelector()
        for fd in list(send):
            selector.register(fd, selectors.EVENT_WRITE)
        for fd in read:
            selector.register(fd, selectors.EVENT_READ)
        exited = os.pidfd_open(pid)
        selector.register(exited, selectors.EVENT_READ)
        deadline = start + plan["timeout_s"]
        ended = timeout = False
        while not ended:
            for key, _ in selector.select(max(0, deadline - time.perf_counter())):
                ended = self.step(selector, key.fd, send, read) or ended
            if not ended and time.perf_counter() >= deadline:
                timeout = ended = True
                os.killpg(pid, signal.SIGKILL)
        _, status, _ = os.wait4(pid, 0)
        took = (time.perf_counter() - start) * 1000
        for fd, parts in read.items():
            while fd in selector.get_map() and self.step(selector, fd, send, read) is None and parts and parts[-1] is not None:
                pass
        for fd in (*list(selector.get_map()), exited):
            try:
                os.close(fd)
            except OSError:
                pass
        text = [base64.b64encode(b"".join(part for part in parts if part)).decode() for parts in read.values()]
        return {"status": status, "stdout": text[0], "stderr": text[1], "result": text[2], "ms": took, "timeout": timeout}

    def step(self, selector, fd, send, read):
        """Moves what can be moved; True when the process ended."""
        done = False
        if fd in send:
            try:
                send[fd] = send[fd][os.write(fd, send[fd][:65536]) :] if send[fd] else b""
            except BlockingIOError:
                return None
            except BrokenPipeError:
                send[fd] = b""
            done = not send[fd]
        elif fd in read:
            try:
                part = os.read(fd, 65536)
            except BlockingIOError:
                read[fd].append(None)
                return None
            read[fd].append(part)
            done = not part
        else:
            return True
        if done:
            selector.unregister(fd)
            os.close(fd)
        return None


def main():
    harness = Harness()
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER, as init is one
    for line in sys.stdin:
        request = json.loads(line)
        answer = {}
        if "zygote" in request:
            harness.stop_zygote()
            harness.start_zygote(request["zygote"])
            answer = {"pid": harness.pid}
        else:
            answer = harness.run(request["run"])
        print(json.dumps(answer), flush=True)
    harness.stop_zygote()


if __name__ == "__main__":
    main()
