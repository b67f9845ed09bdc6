"""Read a JSON file into typed objects, or say in one line what is wrong with it."""

import json
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

T = TypeVar("T")
JSON_OBJECT = TypeAdapter(dict[str, Any])


def read_json(path: Path, kind: TypeAdapter[T], remedy: str) -> T:
    """Read a JSON file and check that it has the given type.

    Args:
        path: the file.
        kind: type of the content, such as ``TypeAdapter(dict[str, int])``.
        remedy: what to do about a damaged file, for the message.

    Raises:
        ValueError: the file cannot be opened, is not JSON, or does not have this type.
    """
    try:
        return kind.validate_json(path.read_bytes(), strict=True)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error}; {remedy}") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = "".join(f"{key}: " for key in [".".join(map(str, first["loc"]))] if key)
        reason = first["msg"].removeprefix("Value error, ")
        raise ValueError(f"{path} is damaged: {place}{reason}; {remedy}") from error


def read_if_whole(path: Path) -> Any:
    """Return the content of a JSON file; None where it is missing, or half written by a process that was killed."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
