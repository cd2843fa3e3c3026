"""What schemathesis needs to know of this API: identifiers that exist, in place of most of those that it makes up, and
how to judge an event stream. SANDBOX_URL and SANDBOX_KEY name a running service."""

import itertools
import json
import os
import random
import urllib.error
import urllib.request

import schemathesis
from jsonschema import Draft202012Validator

URL = os.environ["SANDBOX_URL"] + "/api/v1"
KEY = os.environ["SANDBOX_KEY"]
choice = random.Random(1)
numbers = itertools.count()


def call(method, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    headers = {"X-API-Key": KEY, "Content-Type": "application/json"}
    request = urllib.request.Request(URL + path, data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return json.loads(response.read() or b"null")
    except urllib.error.HTTPError as error:
        return json.loads(error.read())


def new_session():
    return call("POST", "/sessions?wait=20", {"template_id": "python-basic", "timeout": 3600})["id"]


def new_template():
    name = f"fuzz-{next(numbers)}"
    return call("POST", "/templates", {"id": name, "name": name, "image_url": "x", "runtime_type": "python3.11"})["id"]


class Lasting:
    """A session with files and executions, made again when a case has ended it."""

    def __init__(self):
        self.session = ""
        self.executions = []

    def ids(self):
        if self.session == "" or call("GET", f"/sessions/{self.session}").get("status") != "running":
            self.session = new_session()
            self.executions = [
                self.run("print('out')\nopen('out.txt', 'w').write('x' * 1000)\ndef handler(event): return event"),
                self.run("import os; os.makedirs('directory/below', exist_ok=True); raise ValueError('é')"),
            ]
        return self.session, choice.choice(self.executions)

    def run(self, code):
        body = {"language": "python", "code": code}
        return call("POST", f"/sessions/{self.session}/executions?wait=20", body)["id"]


lasting = Lasting()
PATHS = ["out.txt", "directory", "directory/new.txt", "none.txt", "a%2Fb", "..%2Fout.txt"]


@schemathesis.hook
def before_call(context, case, kwargs):
    path, parameters = case.operation.path, case.path_parameters or {}
    if choice.random() < 0.8:
        if "session_id" in parameters:
            ends = path.endswith("/terminate") or (case.method == "DELETE" and path.endswith("{session_id}"))
            parameters["session_id"] = new_session() if ends else lasting.ids()[0]
        if "execution_id" in parameters:
            parameters["execution_id"] = lasting.ids()[1]
        if "path" in parameters:
            parameters["path"] = choice.choice(PATHS)
        if "template_id" in parameters:
            parameters["template_id"] = "python-basic" if case.method == "GET" else new_template()
        if path.endswith("/keys/{name}"):
            parameters["name"] = call("POST", "/keys", {"name": f"fuzz-{next(numbers)}"})["name"]
    # What is meant to be refused stays as it is.
    is_valid = case.meta is None or case.meta.generation.mode.is_positive
    if isinstance(case.body, dict) and is_valid:
        if path.endswith("/sessions") and choice.random() < 0.5:
            case.body["template_id"] = "python-basic"
        # An index that answers nothing keeps an installation waiting for as long as it may take.
        if "dependencies" in case.body:
            case.body["python_package_index_url"] = "http://127.0.0.1:1/simple"
    if path.endswith("/events") and choice.random() < 0.5:
        case.headers = {**(case.headers or {}), "Accept": "application/x-ndjson"}


@schemathesis.hook
def after_call(context, case, response):
    if case.method == "POST" and case.operation.path.endswith("/sessions") and response.status_code == 201:
        call("DELETE", f"/sessions/{response.json()['id']}")


@schemathesis.deserializer("application/x-ndjson", "text/event-stream")
def as_text(context, response):
    return response.content.decode()


@schemathesis.check
def no_server_error(context, response, case):
    """501 is the true answer to a wish for a presigned URL where objects are files of the host."""
    wishes = "presign" in (case.query or {})
    assert response.status_code < 500 or (response.status_code == 501 and wishes), response.text[:500]


@schemathesis.check
def events_are_what_the_document_says(context, response, case):
    """Numbered contiguously, each one an Event, the last one `end`."""
    kind = (response.headers.get("content-type") or [""])[0]
    if response.status_code != 200 or kind not in ("application/x-ndjson", "text/event-stream"):
        return
    text = response.content.decode()
    if kind == "application/x-ndjson":
        events = [json.loads(line) for line in text.split("\n") if line != ""]
    else:
        events = [event for event in map(from_sse, text.split("\n\n")) if event is not None]
    document = case.operation.schema.raw_schema
    judge = Draft202012Validator({"$ref": "#/components/schemas/Event", "components": document["components"]})
    for event in events:
        judge.validate(event)
    numbers = [event["seq"] for event in events]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers))) if numbers else True, numbers
    assert not events or events[-1]["type"] == "end", events[-1]


def from_sse(block):
    fields = dict(line.split(": ", 1) for line in block.split("\n") if ": " in line and not line.startswith(":"))
    return {"seq": int(fields["id"]), "type": fields["event"], "data": json.loads(fields["data"])} if fields else None
