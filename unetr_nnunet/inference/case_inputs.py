"""Which images the label maps of a folder were made from, so that ``--resume`` notices other ones."""

import hashlib
import os
from pathlib import Path

from unetr_nnunet.images.cases import Case
from unetr_nnunet.inference.volumes_table import CaseTable

COLUMNS = ("case", "files", "assumed_orientation")
ASSUMED = "is assumed"
"""In the note on an image whose orientation was assumed, see `images.nifti`."""


class CaseInputs(CaseTable):
    """A hidden table of each case's files, by name, size and time of change, as they were when it was predicted.

    Args:
        path: file to continue, or to write with the first case. Tables of runs with other parts, beside it and of the
            same kind, are read too.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, COLUMNS)
        self._known = {case: values for case, *values in self.rows_with_parts()}

    def note(self, case: Case, assumed_orientation: str | None) -> None:
        """Note what a case is made from, and the orientation that its image was assumed to have, if it was."""
        self.replace_rows(case.name, [(fingerprint(case), assumed_orientation or "")])

    def differ(self, case: Case, assumed_orientation: str | None) -> bool:
        """Whether a case was made from other files, or with another assumption; False where nothing is known of it."""
        if case.name not in self._known:
            return False
        files, assumed = self._known[case.name]
        return files != fingerprint(case) or (assumed != "" and assumed != assumed_orientation)


def fingerprint(case: Case) -> str:
    """Return a hash of the names, sizes and times of change of a case's files; "" where one cannot be looked at."""
    digest = hashlib.sha256()
    try:
        for path in (path for channel in case.channels for path in channel):
            status = path.stat()
            digest.update(os.fsencode(path.name) + f"\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
    except OSError:
        return ""
    return digest.hexdigest()
