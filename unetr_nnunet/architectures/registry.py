"""The architectures that are installed: ours and those of other packages, all found in the same way.

A package registers one as an entry point of the group `GROUP`, ``Name = "module:attribute"``, whose attribute is an
`Architecture` of that name. Names are read from the packages' metadata; a module is imported when its architecture is
asked for. A checkout of this package that is not installed, or has changed since, has its entry points in the
pyproject.toml beside it. No torch in this module.
"""

import functools
import importlib.metadata
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import unetr_nnunet
from unetr_nnunet.architectures.architecture import Architecture, check_token

GROUP = "unetr_nnunet.architectures"
OURS = "unetr_nnunet"  # the distribution
_VARIANTS = "unetr_nnunet.architectures.variants:"


@dataclass(frozen=True)
class Registration:
    """An architecture as a package's metadata names it.

    Attributes:
        name: its name, and the entry point's.
        target: where it is, ``module:attribute``.
        distribution: name of the package that registers it.
        version: of that package.
    """

    name: str
    target: str
    distribution: str
    version: str

    @property
    def is_unetr(self) -> bool:
        """Whether it is UNETR or a modification of it, which have their own trainer names."""
        return self.distribution == OURS and self.target.startswith(_VARIANTS)

    def __str__(self) -> str:
        return f"{self.name} ({self.distribution} {self.version})"


@functools.cache
def registrations() -> tuple[Registration, ...]:
    """Return what all installed packages register, in the order of names."""
    points = importlib.metadata.entry_points(group=GROUP)
    others = [
        Registration(point.name, point.value, point.dist.name, point.dist.version)
        for point in points
        if point.dist is not None
    ]
    ours = _registered_in_checkout()
    if ours is not None:
        others = [one for one in others if one.distribution != OURS] + ours
    return tuple(sorted(others, key=lambda one: (one.name.casefold(), one.distribution)))


def _registered_in_checkout() -> list[Registration] | None:
    """Read our own entry points from the checkout's pyproject.toml; None if this is not a checkout."""
    path = Path(unetr_nnunet.__file__).resolve().parents[1] / "pyproject.toml"
    if not path.is_file():
        return None
    project = tomllib.loads(path.read_text(encoding="utf-8")).get("project", {})
    if project.get("name") != OURS:
        return None
    points = project.get("entry-points", {}).get(GROUP, {})
    return [Registration(name, target, OURS, project["version"]) for name, target in points.items()]


def find(name: str) -> Registration:
    """Return the registration of an architecture.

    Args:
        name: its name, in any case.

    Raises:
        ValueError: if no package registers it, or two do, or the name cannot be a token of a trainer's name.
    """
    same = [one for one in registrations() if one.name.casefold() == name.casefold()]
    if not same:
        names = [one.name for one in registrations()]
        near = get_close_matches(name, names, 1)
        raise ValueError(
            f"there is no architecture {name!r}: "
            + (f"do you mean {near[0]}? " if near else "")
            + f"Install the package that provides it, or choose one of {', '.join(names)}"
        )
    problem = _problem(same)
    if problem:
        raise ValueError(problem)
    return same[0]


def problems() -> list[str]:
    """Return what is wrong with the installed architectures, one line each; nothing is imported."""
    by_name: dict[str, list[Registration]] = {}
    for one in registrations():
        by_name.setdefault(one.name.casefold(), []).append(one)
    return [problem for same in by_name.values() if (problem := _problem(same))]


def _problem(same: list[Registration]) -> str:
    if len(same) > 1:
        who = " and ".join(f"{one.distribution} {one.version}, as {one.name}" for one in same)
        return f"architecture {same[0].name!r} is registered by {who}: remove one of the packages"
    try:
        check_token(same[0].name, f"an architecture of {same[0].distribution} {same[0].version}")
    except ValueError as error:
        return str(error)
    return ""


def load(name: str) -> Architecture:
    """Import an architecture.

    Args:
        name: its name, in any case.

    Raises:
        ValueError: see `find`; or its package cannot be imported, or holds something else under that name.
    """
    return loaded(find(name))


@functools.cache
def loaded(one: Registration) -> Architecture:
    """Import a registered architecture; see `load`."""
    point = importlib.metadata.EntryPoint(one.name, one.target, GROUP)
    try:
        found = point.load()
    except Exception as error:  # whatever a foreign package raises while it is imported
        raise ValueError(
            f"architecture {one} cannot be imported from {one.target} ({type(error).__name__}: {error}): mend or "
            f"reinstall {one.distribution}"
        ) from error
    if not isinstance(found, Architecture):
        raise ValueError(
            f"architecture {one}: {one.target} is a {type(found).__name__}, not an {Architecture.__module__}."
            f"{Architecture.__name__}"
        )
    if found.name != one.name:
        raise ValueError(
            f"architecture {one}: {one.target} calls itself {found.name!r}; entry point and architecture must have the "
            "same name"
        )
    return found


def unetr_names() -> list[str]:
    """Return the names of UNETR and its modifications."""
    return [one.name for one in registrations() if one.is_unetr]


def names(registered: Iterable[Registration] | None = None) -> list[str]:
    """Return all names."""
    return [one.name for one in (registrations() if registered is None else registered)]


def version_note(name: str, distribution: str, version: str) -> str | None:
    """Return one line if an architecture is now another package's, or of another version of it, than it was.

    Args:
        name: of the architecture.
        distribution: the package that provided it then.
        version: of that package.

    Raises:
        ValueError: if it is not installed; the package is named.
    """
    if name.casefold() not in (one.name.casefold() for one in registrations()):
        raise ValueError(
            f"architecture {name} comes from the package {distribution} {version}, which is not installed: pip "
            f"install {distribution}=={version}"
        )
    now = find(name)
    if now.distribution == distribution and (now.version == version or distribution == OURS):
        return None  # our own networks are kept as they are, by tests
    return (
        f"architecture {name} was of {distribution} {version} when this was planned, and is of {now.distribution} "
        f"{now.version} now: if that has changed the network, install the former"
    )
