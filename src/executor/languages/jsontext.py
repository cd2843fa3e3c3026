"""JSON by the parts of the package `json` that are in C. The package itself imports `re`, which is a fifth of a zygote's
start; a program that wants it imports it."""


def refuse(value):
    raise TypeError("a value of type %s is not JSON" % type(value).__name__)


class Reading:
    strict = True
    object_hook = object_pairs_hook = None
    parse_float, parse_int, parse_constant = float, int, float
    memo = {}


try:
    from _json import encode_basestring, make_encoder, make_scanner

    scan = make_scanner(Reading)

    def loads(text):
        """The value of a JSON text that begins with it. Raises ValueError."""
        return scan(text, 0)[0]

    def dumps(value):
        """JSON without spaces, in which surrogates stay as they are. Raises TypeError or ValueError for what is not JSON,
        NaN and the infinities among it."""
        return "".join(make_encoder({}, refuse, encode_basestring, None, ":", ",", False, False, False)(value, 0))

    loads(dumps({"text": [1.5, None]}))
except (ImportError, TypeError):  # another Python than CPython, or a later one
    from json import JSONEncoder, loads

    dumps = JSONEncoder(allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode
