"""Confine reading to the folders that the user named; no link or header leads outside."""

from collections.abc import Iterable
from pathlib import Path

from unetr_nnunet.images.files import volume_ending
from unetr_nnunet.images.itk_formats import HEADER_ENDINGS, data_file


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
        if volume_ending(path).lower() in HEADER_ENDINGS:
            self._refuse(data_file(path))

    def _refuse(self, path: Path) -> None:
        real = path.resolve()
        if not any(real == root or root in real.parents for root in self._roots):
            raise ValueError(f"{path} is a link to {real}, outside of the given folders: give the folder of that file")
