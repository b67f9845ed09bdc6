"""Read a JSON file into typed objects, or say in one line what is wrong with it."""

from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

T = TypeVar("T")


def read_json(path: Path, kind: TypeAdapter[T], remedy: str) -> T:
    """Read a JSON file and check everything in it that its type promises.

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
