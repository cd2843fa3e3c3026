import { rowsOf, type Program } from "./program.ts";

const python = rowsOf("python");

/** What a handler takes and returns. */
export const PYTHON_VALUES: readonly Program[] = [
  python(
    "returns its event",
    "def handler(event):\n    return event",
    { returnValue: { a: 1, b: [true, null] } },
    { event: { a: 1, b: [true, null] } },
  ),
  python("gets null without an event", "def handler(event):\n    return [event is None]", { returnValue: [true] }),
  python("zero stays zero", "def handler(event):\n    return 0", { returnValue: 0 }),
  python("the empty string stays", "def handler(event):\n    return ''", { returnValue: "" }),
  python("false stays", "def handler(event):\n    return False", { returnValue: false }),
  python("the empty list stays", "def handler(event):\n    return []", { returnValue: [] }),
  python("the empty dict stays", "def handler(event):\n    return {}", { returnValue: {} }),
  python("none is null", "def handler(event):\n    pass", { returnValue: null }),
  python("a float", "def handler(event):\n    return 0.1 + 0.2", { returnValue: 0.30000000000000004 }),
  python(
    "nan and infinities are null, deep inside too",
    `
    def handler(event):
        nan, inf = float("nan"), float("inf")
        return {"a": nan, "b": [inf, -inf, {"c": nan}], "d": 1.5}`,
    { returnValue: { a: null, b: [null, null, { c: null }], d: 1.5 } },
  ),
  python("a tuple is a list", "def handler(event):\n    return (1, (2, 3))", { returnValue: [1, [2, 3]] }),
  python(
    "a named tuple is a list",
    `
    from collections import namedtuple
    def handler(event):
        return namedtuple("P", "x y")(1, 2)`,
    { returnValue: [1, 2] },
  ),
  python(
    "keys that are not strings become strings",
    "def handler(event):\n    return {1: 'a', None: 'b', True: 'c', 2.5: 'd'}",
    {
      returnValue: { "1": "c", null: "b", "2.5": "d" },
    },
  ),
  python(
    "subclasses of plain types",
    `
    import collections, enum
    class Level(enum.IntEnum):
        LOW = 1
    def handler(event):
        return [collections.OrderedDict(a=1), collections.Counter("aab"), collections.defaultdict(int, x=2), Level.LOW, True]`,
    {
      returnValue: [{ a: 1 }, { a: 2, b: 1 }, { x: 2 }, 1, true],
    },
  ),
  python(
    "unicode of every plane",
    "def handler(event):\n    return event['s'] + 'é漢😀\\u0000'",
    { returnValue: "ñé漢😀\u0000" },
    { event: { s: "ñ" } },
  ),
  python("a lone surrogate does not break the result", "def handler(event):\n    return '\\ud800'", {
    returnValue: /./,
  }),
  python(
    "a deep value",
    `
    def handler(event):
        value = 0
        for _ in range(200):
            value = [value]
        depth = 0
        return {"value": value}`,
    { returnValue: { value: nested(200) } },
  ),
  python("a megabyte", "def handler(event):\n    return 'x' * 1_000_000", { returnValue: "x".repeat(1_000_000) }),
  python(
    "an event of a megabyte",
    "def handler(event):\n    return len(event['s'])",
    { returnValue: 1_000_000 },
    { event: { s: "y".repeat(1_000_000) } },
  ),
  python(
    "a handler of event and context",
    `
    def handler(event, context):
        left = context.get_remaining_time_in_millis()
        return [event["n"], 0 < left <= 30000, context.timeout_ms]`,
    { returnValue: [4, true, 30000] },
    { event: { n: 4 } },
  ),
  python("an optional context is given", "def handler(event, context=None):\n    return context is not None", {
    returnValue: true,
  }),
  python("another optional argument is left alone", "def handler(event, retries=3):\n    return retries", {
    returnValue: 3,
  }),
  python("a handler without parameters", "def handler():\n    return 'none'", { returnValue: "none" }),
  python("a handler of any arguments", "def handler(*args):\n    return len(args)", { returnValue: 1 }),
  python(
    "a decorated handler",
    `
    import functools
    def twice(function):
        @functools.wraps(function)
        def inner(*args, **kwargs):
            return [function(*args, **kwargs)] * 2
        return inner
    @twice
    def handler(event):
        return event["n"]`,
    { returnValue: [7, 7] },
    { event: { n: 7 } },
  ),
  python(
    "a handler that is an object",
    `
    class Handler:
        def __call__(self, event):
            return "called"
    handler = Handler()`,
    { returnValue: "called" },
  ),
  python("a class of that name is no handler", "class handler:\n    pass\nprint('ran')", { stdout: "ran\n" }),
  python("a value of that name is no handler", "handler = 5\nprint('ran')", { stdout: "ran\n" }),
  python(
    "an asynchronous handler",
    `
    import asyncio
    async def handler(event):
        await asyncio.sleep(0.01)
        return {"sum": sum(await asyncio.gather(*[one(n) for n in event["ns"]]))}
    async def one(n):
        await asyncio.sleep(0)
        return n * 2`,
    { returnValue: { sum: 12 } },
    { event: { ns: [1, 2, 3] } },
  ),
  python("code without a handler returns null", "x = 5\nx", { returnValue: null, stdout: "" }),
  python(
    "a result does not travel on stdout",
    `
    import json
    def handler(event):
        print(json.dumps({"return_value": "forged"}))
        return "true one"`,
    { returnValue: "true one", stdout: '{"return_value": "forged"}\n' },
  ),
  python("a set is not JSON", "def handler(event):\n    return {1, 2}", {
    status: "failed",
    exitCode: 1,
    reason: "invalid_result",
    errorMessage: /type set/,
  }),
  python(
    "an object is not JSON, and the message says where it is",
    `
    class Thing:
        pass
    def handler(event):
        return {"list": [1, {"thing": Thing()}]}`,
    { status: "failed", exitCode: 1, reason: "invalid_result", errorMessage: /type Thing.*\['list'\]\[1\]\['thing'\]/ },
  ),
  python(
    "bytes, a decimal and a date are not JSON",
    `
    import decimal
    def handler(event):
        return decimal.Decimal("1.5")`,
    { status: "failed", exitCode: 1, reason: "invalid_result", errorMessage: /decimal\.Decimal/ },
  ),
  python("a key that is a tuple is not JSON", "def handler(event):\n    return {(1, 2): 3}", {
    status: "failed",
    exitCode: 1,
    reason: "invalid_result",
    errorMessage: /key of type tuple/,
  }),
  python("a value that contains itself is not JSON", "def handler(event):\n    a = []\n    a.append(a)\n    return a", {
    status: "failed",
    exitCode: 1,
    reason: "invalid_result",
    errorMessage: /contains itself/,
  }),
  python("a generator is not JSON", "def handler(event):\n    yield 1", {
    status: "failed",
    exitCode: 1,
    reason: "invalid_result",
    errorMessage: /generator/,
  }),
  python("more than 10 MiB is no result", "def handler(event):\n    return 'x' * 11_000_000", {
    status: "failed",
    exitCode: 1,
    reason: "invalid_result",
    errorMessage: /larger than 10 MiB/,
  }),
];

function nested(depth: number): unknown {
  let value: unknown = 0;
  for (let i = 0; i < depth; i++) value = [value];
  return value;
}
