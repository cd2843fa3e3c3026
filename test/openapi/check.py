"""Judges the OpenAPI document in a file: valid as such, and every example valid under the schema beside it. Prints how
many examples it saw; what is wrong goes to stderr, one line each, with exit code 1."""

import json
import sys

from jsonschema import Draft202012Validator, FormatChecker
from openapi_spec_validator import OpenAPIV31SpecValidator


def followed(document, value):
    while "$ref" in value:
        place = document
        for step in value["$ref"].removeprefix("#/").split("/"):
            place = place[step]
        value = place
    return value


def examples_of(document, holder, is_schema):
    """Every example of a media type, a parameter or a schema."""
    if "example" in holder and not is_schema:
        yield holder["example"]
    given = holder.get("examples")
    if isinstance(given, list):
        yield from given
    elif isinstance(given, dict):
        for example in given.values():
            yield followed(document, example)["value"]


def holders_of(value, path=()):
    """Places that have examples: media types and parameters with their schema, and schemas themselves."""
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from holders_of(item, (*path, str(index)))
    if not isinstance(value, dict):
        return
    if isinstance(value.get("schema"), dict):
        yield (*path, "schema"), value, False
    if "type" in value or "anyOf" in value or "$ref" in value:
        yield path, value, True
    for name, item in value.items():
        if name not in ("example", "examples", "default", "enum", "const"):
            yield from holders_of(item, (*path, name))


def main(file):
    with open(file, encoding="utf-8") as source:
        document = json.load(source)
    wrong = []
    for error in OpenAPIV31SpecValidator(document).iter_errors():
        wrong.append(f"{'/'.join(map(str, error.absolute_path))}: {error.message.splitlines()[0]}")
    seen = 0
    for path, holder, is_schema in holders_of(document):
        pointer = "/".join(step.replace("~", "~0").replace("/", "~1") for step in path)
        schema = {"$ref": f"#/{pointer}", "components": document["components"], "paths": document["paths"]}
        for example in examples_of(document, holder, is_schema):
            seen += 1
            for error in Draft202012Validator(schema, format_checker=FormatChecker()).iter_errors(example):
                wrong.append(f"{pointer}: {error.json_path}: {error.message}")
    print(seen)
    sys.stderr.write("".join(f"{line[:400]}\n" for line in wrong))
    return 1 if wrong else 0


sys.exit(main(sys.argv[1]))
