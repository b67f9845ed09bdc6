"""Short names: what the models' names have in common is left out of figures and tables."""

import re
from collections.abc import Sequence

from markupsafe import Markup

SEPARATOR = "_"
TRAINER = "nnUNetTrainer"


def shorten(names: Sequence[str]) -> dict[str, str]:
    """Return a short name for each model: without the words that all names share, or all of its family.

    Words are separated by an underscore, as in trainer names; the first one is the family (``nnUNetTrainerUNETR``) and
    stays. Where two short names would be the same, nothing is left out.

    Args:
        names: different from each other.
    """
    if len(names) < 2:
        return {name: name for name in names}
    heads = {name: name.partition(" ")[0] for name in names}
    if any(name != head for name, head in heads.items()) and len({name.partition(" ")[2] for name in names}) == 1:
        short = shorten(list(heads.values()))  # plans or configuration, or another word behind all names
        return {name: short[head] for name, head in heads.items()}
    shared = _shared(names)
    short = {}
    for name in names:
        family = name.split(SEPARATOR)[0]
        relatives = [other for other in names if other.split(SEPARATOR)[0] == family]
        spare = shared | (_shared(relatives) if len(relatives) > 1 else set())
        first, *rest = name.split(SEPARATOR)
        first = first.removeprefix(TRAINER) or first
        kept = [word for word in rest if word not in spare]
        short[name] = SEPARATOR.join([*([] if first in shared and kept else [first]), *kept])
    return short if len(set(short.values())) == len(names) and all(short.values()) else {name: name for name in names}


def _shared(names: Sequence[str]) -> set[str]:
    """Return the words that all names hold."""
    return set.intersection(*(set(name.split(SEPARATOR)) for name in names))


def organ_label(name: str) -> str:
    """Return a column's name for readers."""
    return name.replace("_", " ")


def breakable(name: str) -> Markup:
    """Return a name that a line may break after an underscore, escaped."""
    parts = re.split(r"(?<=_)", name)
    return Markup("<wbr>").join(parts)
