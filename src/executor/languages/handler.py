"""Calling the program's `handler` and writing what it returned as JSON."""

import time

from jsontext import dumps

RESULT_LIMIT_BYTES = 10 * 1024 * 1024
# Names by which an optional second parameter is known to want the context.
CONTEXT_NAMES = ("context", "ctx", "_context", "_ctx", "_")


class InvalidResult(Exception):
    """The value that `handler` returned cannot be a result; the message says why."""


class Context:
    """The second argument of `handler`."""

    def __init__(self, job):
        self.execution_id = job.get("execution_id")
        self.timeout_ms = job["timeout_ms"]
        self._deadline = time.monotonic() + self.timeout_ms / 1000

    def get_remaining_time_in_millis(self):
        return max(0, int((self._deadline - time.monotonic()) * 1000))


def call(handler, job):
    value = handler(*arguments(handler, job))
    if hasattr(value, "__await__"):
        import asyncio

        async def wait():
            return await value

        value = asyncio.run(wait())
    return value


def arguments(handler, job):
    """What `handler` takes of event and context."""
    if type(handler) is not type(arguments) or hasattr(handler, "__wrapped__"):
        import inspect

        kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        try:
            found = inspect.signature(handler).parameters.values()
        except (TypeError, ValueError):
            return (job["event"],)
        names = [p.name for p in found if p.kind in kinds]
        required = sum(p.kind in kinds and p.default is p.empty for p in found)
        variadic = any(p.kind is p.VAR_POSITIONAL for p in found)
    else:
        code = handler.__code__
        names = code.co_varnames[: code.co_argcount]
        required = len(names) - len(handler.__defaults__ or ())
        variadic = code.co_flags & 4
    if len(names) > 1 and (required > 1 or names[1] in CONTEXT_NAMES):
        return job["event"], Context(job)
    return (job["event"],) if names or variadic else ()


def encode_result(value):
    try:
        text = dumps({"return_value": value})
    except (TypeError, ValueError, RecursionError):
        try:
            text = dumps({"return_value": plain(value, "", set())})
        except (ValueError, RecursionError) as error:
            raise InvalidResult("the value that handler returned cannot be written as JSON: %s" % error) from None
    data = text.encode("utf-8", "backslashreplace")  # which is how JSON writes half a surrogate pair, too
    if len(data) > RESULT_LIMIT_BYTES:
        raise InvalidResult("the value that handler returned is larger than %d MiB" % (RESULT_LIMIT_BYTES >> 20))
    return data


def plain(value, path, parents):
    """`value` with null for NaN and the infinities. Raises InvalidResult for what is not JSON."""
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return value if value - value == 0 else None
    where = " (at %s)" % path if path else ""
    if isinstance(value, (dict, list, tuple)):
        if id(value) in parents:
            raise InvalidResult("the value that handler returned contains itself" + where)
        parents.add(id(value))
        if isinstance(value, dict):
            for key in value:
                if not (key is None or isinstance(key, (str, bool, int, float))):
                    message = "handler returned a dict with a key of type %s, which is not JSON%s"
                    raise InvalidResult(message % (type_name(key), where))
            done = {
                (key if not isinstance(key, float) else repr(float(key))): plain(item, "%s[%r]" % (path, key), parents)
                for key, item in value.items()
            }
        else:
            done = [plain(item, "%s[%d]" % (path, index), parents) for index, item in enumerate(value)]
        parents.discard(id(value))
        return done
    raise InvalidResult("handler returned a value of type %s, which is not JSON%s" % (type_name(value), where))


def type_name(value):
    kind = type(value)
    module = "" if kind.__module__ in ("builtins", "__main__") else kind.__module__ + "."
    return module + kind.__qualname__
