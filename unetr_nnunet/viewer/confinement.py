"""Files are read from the folders that the user named, and from nowhere else, whatever links and headers say."""

import re
from collections.abc import Iterable
from pathlib import Path

_HEADER_BYTES = 1 << 20
_HEADER_ENDINGS = (".nrrd", ".nhdr", ".mha", ".mhd")
_DATA_FILE = re.compile(
    rb"^[ \t]*(?:data ?file|ElementDataFile)[ \t]*[:=]+[ \t]*(.*?)[ \t]*\r?$", re.IGNORECASE | re.MULTILINE
)
_NRRD_END = re.compile(rb"\r?\n\r?\n")


class GivenPaths:
    """The folders and files that the user named.

    Args:
        paths: folders, whose content may be read, and single files. A link among them is what the user named himself,
            and is followed.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self._roots = tuple(dict.fromkeys(path.resolve() for path in paths))

    def refuse_outside(self, path: Path) -> None:
        """Refuse a file that lies, or keeps its voxels, outside.

        Raises:
            ValueError: it does.
            OSError: the file cannot be opened.
        """
        self._refuse(path)
        if path.name.lower().endswith(_HEADER_ENDINGS):
            self._refuse_voxels_elsewhere(path)

    def _refuse(self, path: Path) -> None:
        real = path.resolve()
        if not any(real == root or root in real.parents for root in self._roots):
            raise ValueError(f"{path} is a link to {real}, outside of the given folders: give the folder of that file")

    def _refuse_voxels_elsewhere(self, path: Path) -> None:
        """NRRD and MetaImage headers can name any file as the one that holds the voxels."""
        with path.open("rb") as stream:
            header = stream.read(_HEADER_BYTES)
        is_nrrd = path.suffix.lower() in (".nrrd", ".nhdr")
        end = _NRRD_END.search(header) if is_nrrd else _DATA_FILE.search(header)
        if end is None and len(header) == _HEADER_BYTES:
            raise ValueError(f"{path} has a header of more than {_HEADER_BYTES} bytes")
        for match in _DATA_FILE.finditer(header[: end.end()] if end else header):
            name = match[1].decode("utf-8", "surrogateescape")
            if name.upper() == "LOCAL":
                continue
            if name.upper().startswith("LIST") or "%" in name or "\0" in name or Path(name).name != name:
                raise ValueError(f"{path} keeps its voxels in {name[:80]!r}; only one file beside it will do")
            self._refuse(path.parent / name)
