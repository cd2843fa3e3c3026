"""Prints what an execution writes, as it writes it, with nothing missing or doubled when connections are cut.

    python3 follow.py http://localhost:8000 exec_20260131120000_0a1b2c3d

SANDBOX_KEY is the key, if the server asks for one. It ends with the execution's own exit code. Standard library only.
"""

import http.client
import json
import os
import sys
import time
import urllib.error
import urllib.request


def events(url, execution, seen):
    """The events of one connection, as (number, type, data)."""
    request = urllib.request.Request(f"{url}/api/v1/executions/{execution}/events")
    request.add_header("Accept", "text/event-stream")
    request.add_header("Last-Event-ID", str(seen))
    if "SANDBOX_KEY" in os.environ:
        request.add_header("Authorization", f"Bearer {os.environ['SANDBOX_KEY']}")
    # The server sends something at least every 15 s, so a longer silence is a dead connection.
    with urllib.request.urlopen(request, timeout=45) as response:
        fields = {}
        for line in response:
            name, _, value = line.decode().rstrip("\n").partition(": ")
            if line != b"\n":
                fields[name] = value
            elif "data" in fields:
                # Only the empty line makes it an event: one that was cut before it comes again.
                yield int(fields["id"]), fields["event"], json.loads(fields["data"])
                fields = {}


def follow(url, execution):
    seen = 0
    while True:
        try:
            for seen, kind, data in events(url, execution, seen):
                if kind == "end":
                    return data["exit_code"]
                if kind in ("stdout", "stderr"):
                    print(data["text"], end="", flush=True, file=getattr(sys, kind))
        except urllib.error.HTTPError as error:
            if error.code < 500:
                sys.exit(f"refused: {error.read().decode()}")
        except (OSError, http.client.HTTPException):
            pass
        time.sleep(0.5)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        print("usage: python3 follow.py URL EXECUTION", file=sys.stderr)
        sys.exit(2)
    code = follow(*sys.argv[1:])
    sys.exit(1 if code is None else code)
