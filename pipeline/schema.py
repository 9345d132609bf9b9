"""The JSON Schema of what users read (`engagement`, `health`, `event`), made from the message types.

python -m pipeline.schema        writes docs/engagement.schema.json
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

import msgspec
import typer

from pipeline.messages import TOPICS, VERSION

FILE = Path(__file__).parents[1] / "docs" / "engagement.schema.json"
COMMAND = "python -m pipeline.schema"
Json = dict[str, "Json"] | list["Json"] | str | int | float | bool | None


def build() -> dict[str, Json]:
    """One document: any message of a JSON topic. Every field is required, since every field is always sent."""
    types = {topic.name: topic.type for topic in TOPICS.values() if topic.codec == "json"}
    references, definitions = msgspec.json.schema_components(types.values(), ref_template="#/$defs/{name}")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Messages of AGCM Live that users read",
        "description": "The second part of the ZeroMQ messages of the topics " + ", ".join(types) + ".",
        "anyOf": list(cast(tuple[Json, ...], references)),
        "$defs": {name: _as_sent(cast(dict[str, Json], definition)) for name, definition in definitions.items()},
    }


def _as_sent(definition: dict[str, Json]) -> dict[str, Json]:
    """The schema of an object as it is on the wire: without optional fields, and of this version only."""
    fields = cast(dict[str, dict[str, Json]], definition["properties"])
    sent: dict[str, Json] = {
        name: {key: value for key, value in field.items() if key != "default"} for name, field in fields.items()
    }
    if "v" in sent:
        sent["v"] = {"const": VERSION}
    return {**definition, "properties": sent, "required": list(sent)}


def render() -> str:
    """The text of the file."""
    return msgspec.json.format(msgspec.json.encode(build()), indent=2).decode() + "\n"


def main() -> None:
    """Writes docs/engagement.schema.json, the JSON Schema of what users read, from the message types."""
    FILE.write_text(render(), encoding="utf-8")
    print(f"wrote {FILE.relative_to(Path.cwd())}" if FILE.is_relative_to(Path.cwd()) else f"wrote {FILE}")


if __name__ == "__main__":
    typer.run(main)
