#!/usr/bin/env python3
"""Writes src/qy_lty_client/rest_types.py from docs/api/openapi.json; with --check, fails where it is not current.

TypedDicts of Python 3.10: optional fields are in a subclass with total=False, and names that are keywords need the functional form.
"""

from __future__ import annotations

import json
import keyword
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SOURCE = HERE.parents[2] / "docs/api/openapi.json"
TARGET = HERE.parent / "src/qy_lty_client/rest_types.py"
HEAD = '''"""The objects of the REST API. Made by scripts/generate_types.py from docs/api/openapi.json; do not edit."""

from __future__ import annotations

from typing import Any, Literal, TypedDict
'''
SIMPLE = {"string": "str", "integer": "int", "number": "float", "boolean": "bool", "null": "None"}


class Generator:
    """Makes the classes; objects within objects get a class of their own."""

    def __init__(self, schemas: dict[str, Any]) -> None:
        self.schemas = schemas
        self.blocks: list[str] = []

    def run(self) -> str:
        """Returns the module."""
        for name, schema in self.schemas.items():
            self.define(name, schema)
        return HEAD + "".join(self.blocks)

    def define(self, name: str, schema: dict[str, Any]) -> None:
        """Adds the class, or the alias, of a schema."""
        if schema.get("type") == "object" and schema.get("properties"):
            self.define_class(name, schema)
        else:
            self.blocks.append(f"\n\n{name} = {self.expression(schema, name)}\n")

    def define_class(self, name: str, schema: dict[str, Any]) -> None:
        """Adds a TypedDict."""
        required = set(schema.get("required", ()))
        fields = {field: self.expression(value, name + camel(field)) for field, value in schema["properties"].items()}
        always = {field: kind for field, kind in fields.items() if field in required}
        sometimes = {field: kind for field, kind in fields.items() if field not in required}
        text = summary(schema, name)
        if any(keyword.iskeyword(field) for field in fields):
            if sometimes:
                raise SystemExit(f"{name} has optional fields and keywords: not supported")
            items = ", ".join(f'"{field}": "{kind}"' for field, kind in always.items())
            self.blocks.append(f'\n\n{name} = TypedDict("{name}", {{{items}}})\n"""{text}"""\n')
        elif always and sometimes:
            self.blocks.append(body(f"class _{name}(TypedDict)", f"The required fields of {name}.", always))
            self.blocks.append(body(f"class {name}(_{name}, total=False)", text, sometimes))
        elif sometimes:
            self.blocks.append(body(f"class {name}(TypedDict, total=False)", text, sometimes))
        else:
            self.blocks.append(body(f"class {name}(TypedDict)", text, always))

    def expression(self, schema: dict[str, Any], name: str) -> str:
        """Returns the type of a value."""
        if "$ref" in schema:
            return str(schema["$ref"]).rsplit("/", 1)[1]
        if "const" in schema:
            return f"Literal[{schema['const']!r}]".replace("'", '"')
        if "enum" in schema:
            return "Literal[" + ", ".join(repr(value) for value in schema["enum"]).replace("'", '"') + "]"
        for several in ("anyOf", "oneOf"):
            if several in schema and "properties" not in schema:
                return self.union(schema[several], name)
        kind = schema.get("type")
        if isinstance(kind, list):
            return " | ".join(dict.fromkeys(self.expression({**schema, "type": each}, name) for each in kind))
        if kind == "array":
            items = self.expression(schema.get("items", {}), name + "Item")
            return f"list[{items}]"
        if kind == "object":
            if schema.get("properties"):
                self.define_class(name, schema)
                return name
            extra = schema.get("additionalProperties")
            return f"dict[str, {self.expression(extra, name + 'Value') if isinstance(extra, dict) else 'Any'}]"
        return SIMPLE.get(str(kind), "Any")

    def union(self, choices: list[dict[str, Any]], name: str) -> str:
        """Returns a union; several objects get numbered classes, and several constants one Literal."""
        if all("const" in choice for choice in choices):
            return "Literal[" + ", ".join(json.dumps(choice["const"]) for choice in choices) + "]"
        kinds = [self.expression(choice, f"{name}{number}") for number, choice in enumerate(choices, 1)]
        return " | ".join(dict.fromkeys(kinds))


def camel(field: str) -> str:
    """Returns a field's name as part of a class's name."""
    return "".join(part.capitalize() for part in field.split("_"))


def summary(schema: dict[str, Any], name: str) -> str:
    """Returns the description of a schema as one paragraph."""
    text = " ".join(str(schema.get("description") or name + ".").split())
    return text.replace("\\", "\\\\").replace('"""', "'''")


def body(head: str, text: str, fields: dict[str, str]) -> str:
    """Returns the text of a class."""
    return f'\n\n{head}:\n    """{text}"""\n\n' + "".join(f"    {field}: {kind}\n" for field, kind in fields.items())


def main() -> int:
    """Writes or compares the file."""
    text = Generator(json.loads(SOURCE.read_text())["components"]["schemas"]).run()
    if "--check" in sys.argv:
        if TARGET.read_text() != text:
            print(f"{TARGET} is not current: run {Path(__file__).name}")
            return 1
        return 0
    TARGET.write_text(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
