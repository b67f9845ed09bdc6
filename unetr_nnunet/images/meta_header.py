"""Is a MetaImage header fit to be read? SimpleITK's MetaIO writes beyond its buffers where one is not.

A broken header would end the whole run instead of one case.
Format: https://itk.org/Wiki/ITK/MetaIO/Documentation
"""

import re

_DATA_KEY = b"ElementDataFile"
_LINE = re.compile(rb"([A-Za-z][\w.-]{0,79}) *[=:](.{0,1000})")
_CONTROL = re.compile(rb"[\x00-\x08\x0b-\x1f\x7f]")
_VECTORS = frozenset({"DimSize", "ElementSpacing", "ElementSize", "Offset", "Position", "Origin", "CenterOfRotation"})
_MATRICES = frozenset({"TransformMatrix", "Rotation", "Orientation"})
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d{1,3})?|[-+]?(nan|inf)", re.IGNORECASE)
_LONGEST_NUMBER = 40
_MOST_DIMENSIONS = 5


def meta_header_defect(start: bytes) -> str:
    """Return in words what is wrong with a MetaImage header, "" where nothing is.

    Args:
        start: beginning of the file.
    """
    values: dict[str, str] = {}
    for line in start.split(b"\n"):
        line = line.rstrip(b"\r")
        match = _LINE.fullmatch(line)
        if not match or _CONTROL.search(line):
            return f"line {len(values) + 1} of its header is no 'key = value'"
        key = match[1].decode()
        if key in values:
            return f"its header holds {key} twice"
        values[key] = match[2].decode(errors="replace").strip()
        if match[1] == _DATA_KEY:
            return _wrong_value(values)
    return f"its header has no {_DATA_KEY.decode()}"


def _wrong_value(values: dict[str, str]) -> str:
    dimensions = values.get("NDims", "")
    if not dimensions.isdecimal() or not 1 <= int(dimensions) <= _MOST_DIMENSIONS:
        return f"its header says NDims = {dimensions or 'nothing'}"
    if not values[_DATA_KEY.decode()]:
        return "its header names no data file"
    for key, value in values.items():
        count = int(dimensions) if key in _VECTORS else int(dimensions) ** 2 if key in _MATRICES else 0
        numbers = value.split() if count else []
        if len(numbers) != count or not all(_NUMBER.fullmatch(n) and len(n) <= _LONGEST_NUMBER for n in numbers):
            return f"its header says {key} = {value[:80]}, where {count} numbers belong"
    return ""
