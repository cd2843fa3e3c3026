"""Ordinary keep-alive clients of the service, which retry nothing.

load.py URL WORKERS PAUSE_S, with API_KEY and SESSION in the environment, until stdin closes. Each worker keeps one connection and
opens another only when the server said that it closes it. Prints one JSON object: the number of requests, of connections,
and each failure.
"""

import http.client
import json
import os
import sys
import threading
import time
import urllib.parse

url, workers, pause_s = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
host = urllib.parse.urlsplit(url)
headers = {"X-API-Key": os.environ["API_KEY"], "Content-Type": "application/json"}
session = os.environ["SESSION"]
stopping = threading.Event()
lock = threading.Lock()
total = {"requests": 0, "connections": 0, "failures": []}

HANDLER = {"language": "python", "code": "def handler(event):\n    return event['n'] + 1", "event": {"n": 1}}


class Counted(http.client.HTTPConnection):
    def connect(self):
        with lock:
            total["connections"] += 1
        super().connect()


def call(connection, method, path, body=None):
    started = time.monotonic()
    try:
        connection.request(method, "/api/v1" + path, None if body is None else json.dumps(body), headers)
        response = connection.getresponse()
        said = response.read()
        failure = None if response.status < 400 else f"{response.status} {said[:300]!r}"
    except Exception as error:
        connection.close()
        said, failure = b"null", repr(error)
    with lock:
        total["requests"] += 1
        if failure is not None and len(total["failures"]) < 20:
            seconds = round(time.monotonic() - started, 3)
            total["failures"].append(f"{method} {path} after {seconds} s at {time.time():.3f}: {failure}")
    return None if failure else said


def work(number):
    connection = Counted(host.hostname, host.port, timeout=60)
    turn = number
    while not stopping.is_set():
        turn += 1
        kind = turn % 4
        if kind == 0:
            call(connection, "GET", f"/sessions/{session}")
        elif kind == 1:
            said = call(connection, "POST", f"/executions/sessions/{session}/execute-sync", HANDLER)
            if said and json.loads(said)["return_value"] != 2:
                total["failures"].append(f"wrong answer: {said!r}")
        elif kind == 2:
            call(connection, "PUT", f"/sessions/{session}/files/worker-{number}.txt", {"n": turn})
        else:
            said = call(connection, "POST", f"/sessions/{session}/executions", HANDLER)
            if said:
                events = call(connection, "GET", f"/executions/{json.loads(said)['id']}/events")
                if events and b"event: end" not in events:
                    with lock:
                        total["cut"] = total.get("cut", 0) + 1
        stopping.wait(pause_s)
    connection.close()


threads = [threading.Thread(target=work, args=(number,)) for number in range(workers)]
for thread in threads:
    thread.start()
print("started", flush=True)
sys.stdin.read()
stopping.set()
for thread in threads:
    thread.join()
print(json.dumps(total))
