import { rowsOf, type Program } from "./program.ts";

const python = rowsOf("python");

/** The standard library, as data work uses it. */
export const PYTHON_LIBRARY: readonly Program[] = [
  python(
    "csv in, file out",
    `
    import csv, pathlib
    pathlib.Path("in.csv").write_text("name,n\\nä,1\\nb,2\\n", encoding="utf-8")
    with open("in.csv", newline="", encoding="utf-8") as f:
        rows = list(csv.DictReader(f))
    total = sum(int(r["n"]) for r in rows)
    pathlib.Path("out/result.txt").parent.mkdir(exist_ok=True)
    pathlib.Path("out/result.txt").write_text(str(total))
    print(total, rows[0]["name"])`,
    { stdout: "3 ä\n" },
  ),
  python(
    "sqlite3",
    `
    import sqlite3
    db = sqlite3.connect("test.db")
    db.execute("drop table if exists t")
    db.execute("create table t(a, b)")
    db.executemany("insert into t values(?, ?)", [(1, "x"), (2, "y")])
    db.commit()
    print(db.execute("select sum(a), group_concat(b) from t").fetchone())`,
    { stdout: "(3, 'x,y')\n" },
  ),
  python(
    "ssl",
    "import ssl\nprint(ssl.create_default_context().verify_mode.name, ssl.OPENSSL_VERSION.startswith('OpenSSL'))",
    { stdout: "CERT_REQUIRED True\n" },
  ),
  python(
    "hashes and tokens",
    "import hashlib, secrets, uuid\nprint(hashlib.sha256(b'a').hexdigest()[:8], len(secrets.token_hex(8)), uuid.uuid4().version)",
    { stdout: "ca978112 16 4\n" },
  ),
  python(
    "temporary files",
    `
    import tempfile, os
    with tempfile.TemporaryDirectory() as d:
        with tempfile.NamedTemporaryFile("w+", dir=d, suffix=".txt") as f:
            f.write("x"); f.flush()
            print(os.path.exists(f.name), d.startswith("/tmp/"))
    print(os.path.exists(d))`,
    { stdout: "True True\nFalse\n" },
  ),
  python(
    "dates and zones",
    `
    from datetime import datetime, timedelta, timezone
    from zoneinfo import ZoneInfo
    print(datetime(2024, 2, 29, tzinfo=timezone.utc) + timedelta(days=366))
    print(datetime(2024, 7, 1, 12, tzinfo=ZoneInfo("Europe/Berlin")).utcoffset())`,
    { stdout: "2025-03-01 00:00:00+00:00\n2:00:00\n" },
  ),
  python(
    "locale",
    "import locale\nlocale.setlocale(locale.LC_ALL, '')\nprint(locale.getpreferredencoding(), locale.format_string('%.2f', 1234.5))",
    { stdout: "UTF-8 1234.50\n" },
  ),
  python(
    "decimal and fractions",
    "from decimal import Decimal, getcontext\nfrom fractions import Fraction\ngetcontext().prec = 30\nprint(Decimal(1) / 7, Fraction(1, 3) + Fraction(1, 6))",
    {
      stdout: "0.142857142857142857142857142857 1/2\n",
    },
  ),
  python(
    "dataclasses",
    `
    from dataclasses import asdict, dataclass, field
    @dataclass(order=True)
    class Point:
        x: int
        tags: list = field(default_factory=list)
    def handler(event):
        return asdict(max(Point(1), Point(2, ["b"])))`,
    { returnValue: { x: 2, tags: ["b"] } },
  ),
  python(
    "types",
    `
    from typing import Generic, NamedTuple, TypeVar, get_type_hints
    T = TypeVar("T")
    class Box(Generic[T]):
        value: "int"
    class Pair(NamedTuple):
        a: int
        b: str = "b"
    print(get_type_hints(Box), Pair(1))`,
    { stdout: "{'value': <class 'int'>} Pair(a=1, b='b')\n" },
  ),
  python("enums", "import enum\nclass C(enum.Enum):\n    RED = enum.auto()\nprint(C.RED, C['RED'].value, list(C))", {
    stdout: "C.RED 1 [<C.RED: 1>]\n",
  }),
  python(
    "generators and itertools",
    `
    import itertools
    def fib():
        a, b = 0, 1
        while True:
            yield a
            a, b = b, a + b
    print(list(itertools.islice(fib(), 10)), sum(x for x in itertools.takewhile(lambda n: n < 50, fib())))`,
    {
      stdout: "[0, 1, 1, 2, 3, 5, 8, 13, 21, 34] 88\n",
    },
  ),
  python(
    "functools",
    "import functools\n@functools.lru_cache\ndef f(n): return n if n < 2 else f(n-1) + f(n-2)\nprint(f(90), functools.reduce(lambda a, b: a * b, range(1, 11)))",
    {
      stdout: "2880067194370816120 3628800\n",
    },
  ),
  python(
    "regular expressions",
    "import re\nprint(re.sub(r'(?P<d>\\d+)', lambda m: str(int(m['d']) * 2), 'a1b22'), re.findall(r'\\w+', 'äb cd'))",
    { stdout: "a2b44 ['äb', 'cd']\n" },
  ),
  python(
    "logging goes to stderr",
    "import logging\nlogging.basicConfig(level=logging.INFO, format='%(levelname)s %(name)s %(message)s')\nlogging.getLogger('app').info('started')\nlogging.warning('careful')",
    {
      stdout: "",
      stderr: "INFO app started\nWARNING root careful\n",
    },
  ),
  python(
    "a log file is written",
    "import logging\nlogging.basicConfig(filename='app.log', level=logging.INFO)\nlogging.info('x')\nprint(open('app.log').read())",
    { stdout: "INFO:root:x\n\n" },
  ),
  python("warnings show the program's line", "import warnings\n\nwarnings.warn('old', DeprecationWarning)", {
    stderr: "main.py:3: DeprecationWarning: old\n  warnings.warn('old', DeprecationWarning)\n",
  }),
  python("a syntax warning", "x = 1\nif x is 'a': pass\nprint('ran')", {
    stdout: "ran\n",
    stderr: /main\.py:2: SyntaxWarning/,
  }),
  python(
    "json, pickle and copy",
    `
    import copy, json, pickle
    class Node:
        def __init__(self, v): self.v = v
    n = pickle.loads(pickle.dumps(Node({"a": [1]})))
    print(json.dumps(copy.deepcopy(n.v)), type(n) is Node)`,
    { stdout: '{"a": [1]} True\n' },
  ),
  python(
    "source can be inspected",
    `
    import inspect
    class Shown:
        x = 1
    def shown(a):
        return a + 1
    print(inspect.getsource(shown), end="")
    print(inspect.getsource(Shown), end="")`,
    { stdout: "def shown(a):\n    return a + 1\nclass Shown:\n    x = 1\n" },
  ),
  python(
    "zip and gzip",
    `
    import gzip, io, zipfile
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as z:
        z.writestr("a.txt", "hello")
    print(zipfile.ZipFile(buffer).read("a.txt"), gzip.decompress(gzip.compress(b"data")))`,
    { stdout: "b'hello' b'data'\n" },
  ),
  python(
    "xml and html",
    "import html, xml.etree.ElementTree as E\nprint(E.fromstring('<a><b x=\"1\"/></a>').find('b').get('x'), html.escape('<&>'))",
    { stdout: "1 &lt;&amp;&gt;\n" },
  ),
  python(
    "urls",
    "from urllib.parse import urlsplit, quote, parse_qs\nprint(urlsplit('https://h:1/p?q=ä#f').port, quote('ä b'), parse_qs('a=1&a=2'))",
    { stdout: "1 %C3%A4%20b {'a': ['1', '2']}\n" },
  ),
  python(
    "statistics and random",
    "import random, statistics\nrandom.seed(5)\na = random.random()\nrandom.seed(5)\nprint(a == random.random(), statistics.mean([1, 2, 6]), statistics.median([3, 1, 2]))",
    { stdout: "True 3 2\n" },
  ),
  python(
    "a picture is written",
    `
    import struct, zlib
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    rows = b"".join(b"\\0" + bytes([x * 4, y * 4, 128]) * 1 for y in range(64) for x in range(1))
    png = b"\\x89PNG\\r\\n\\x1a\\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 64, 8, 2, 0, 0, 0)) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    with open("plot.png", "wb") as f:
        f.write(png)
    print(len(png) > 60)`,
    { stdout: "True\n" },
  ),
  python(
    "argparse and unittest",
    `
    import argparse, unittest
    print(argparse.ArgumentParser().parse_args([]))
    class T(unittest.TestCase):
        def test(self):
            self.assertEqual(1, 1)
    unittest.main(argv=["x"], exit=False)`,
    { stdout: "Namespace()\n", stderr: /Ran 1 test[\s\S]*OK/ },
  ),
  python(
    "context managers and exception notes",
    `
    import contextlib
    @contextlib.contextmanager
    def scope():
        print("in")
        try:
            yield 5
        finally:
            print("out")
    with scope() as n, contextlib.suppress(KeyError):
        print(n)
        {}["x"]`,
    { stdout: "in\n5\nout\n" },
  ),
  python(
    "pattern matching",
    `
    import sys
    code = """
    match {"kind": "point", "x": 3}:
        case {"kind": "point", "x": x}:
            print("point", x)
    """
    if sys.version_info >= (3, 10):
        import textwrap
        exec(textwrap.dedent(code))
    else:
        print("point", 3)`,
    { stdout: "point 3\n" },
  ),
  python(
    "memory views, arrays, structs",
    "import array, struct\na = array.array('i', [1, 2, 3])\nprint(sum(memoryview(a)), struct.unpack('<H', b'\\x01\\x02')[0], int.from_bytes(b'\\x01\\x00', 'big'))",
    { stdout: "6 513 256\n" },
  ),
  python(
    "garbage collection works",
    "import gc, weakref\nclass A: pass\na = A(); a.me = a; r = weakref.ref(a)\ndel a\nprint(gc.isenabled(), gc.collect() > 0, r())",
    { stdout: "True True None\n" },
  ),
  python(
    "help and the debugger's imports",
    "import pdb, pydoc, timeit, cProfile\nprint(pydoc.plain(pydoc.render_doc(len)).splitlines()[0])",
    { stdout: /built-in function len/ },
  ),
  python(
    "a larger computation",
    `
    def handler(event):
        sieve = bytearray([1]) * (event["n"] + 1)
        for i in range(2, int(event["n"] ** 0.5) + 1):
            if sieve[i]:
                sieve[i * i :: i] = bytes(len(sieve[i * i :: i]))
        return sum(sieve[2:])`,
    { returnValue: 9592 },
    { event: { n: 100_000 } },
  ),
];
