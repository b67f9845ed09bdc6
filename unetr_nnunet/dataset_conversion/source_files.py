"""List and open the files of a download, a folder or a zip archive (which is never unpacked as a whole)."""

import io
import zipfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

NIFTI_ENDINGS = (".nii.gz", ".nii")
MAX_FOLDER_DEPTH = 5
"""Folders deeper than this below the source are not searched."""


@dataclass(frozen=True)
class SourceFile:
    """One file of the download.

    Attributes:
        name: path below the source, with forward slashes.
        size_bytes: size of the file as it will lie on disk.
        stamp: modification time in ns (folder) or CRC-32 (zip), so that a changed file is noticed.
        path: the file on disk; None inside a zip.
        archive: the open archive; None in a folder. Several threads may read from it.
        made: returns the bytes of a ``.nii.gz`` file that the download holds in another form; `size_bytes` is then the
            size of what it is made from.
    """

    name: str
    size_bytes: int
    stamp: int
    path: Path | None = None
    archive: zipfile.ZipFile | None = None
    made: Callable[[], bytes] | None = None

    @property
    def is_gzipped(self) -> bool:
        """Whether `open` gives the bytes of a gzip file."""
        return self.made is not None or self.name.lower().endswith(".gz")

    def open(self) -> IO[bytes]:
        """Open for reading; a zip member is decompressed on the fly and its CRC checked at its end."""
        if self.made is not None:
            return io.BytesIO(self.made())
        if self.path is not None:
            return self.path.open("rb")
        if self.archive is None:
            raise ValueError(f"{self.name} has neither a path nor an archive: build SourceFile with one of them")
        return self.archive.open(self.name)

    def read_text(self) -> str:
        """Return the content of a text file, without a byte order mark.

        Raises:
            ValueError: it is damaged or not UTF-8.
        """
        try:
            with self.open() as stream:
                return stream.read().decode("utf-8-sig")
        except (zipfile.BadZipFile, EOFError, UnicodeDecodeError) as error:
            raise ValueError(f"{self.name} cannot be read ({error}): download or extract it again") from error


@contextmanager
def open_source(source: Path, also: Collection[str] = ()) -> Iterator[list[SourceFile]]:
    """Yield every NIfTI file below ``source``, sorted by name. A zip stays open as long as the block lasts.

    Args:
        source: a folder or a zip archive.
        also: names of other files that are wanted, such as ``meta.csv``.

    Raises:
        FileNotFoundError: ``source`` does not exist.
        ValueError: ``source`` is neither, or the archive is incomplete or encrypted.
    """
    if source.is_dir():
        yield sorted(_folder_files(source, also), key=lambda file: file.name)
        return
    if not source.exists():
        raise FileNotFoundError(f"{source} does not exist: give the downloaded zip or the folder it was extracted to")
    try:
        archive = zipfile.ZipFile(source)
    except zipfile.BadZipFile as error:
        raise ValueError(
            f"{source} is not a complete zip archive ({error}; {source.stat().st_size} bytes): "
            "the download was cut off or is another file; download it again and compare its size"
        ) from error
    with archive:
        yield sorted(_archive_files(archive, also), key=lambda file: file.name)


def _is_wanted(name: PurePosixPath, also: Collection[str]) -> bool:
    """Tell NIfTI files from others and from the hidden twins that macOS puts into archives."""
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in name.parts)
    return (name.name.lower().endswith(NIFTI_ENDINGS) or name.name in also) and not hidden


def _folder_files(
    folder: Path, also: Collection[str], root: Path | None = None, depth: int = 0
) -> Iterator[SourceFile]:
    root = root or folder
    for entry in folder.iterdir():
        relative = PurePosixPath(entry.relative_to(root).as_posix())
        if entry.is_dir() and depth < MAX_FOLDER_DEPTH and not entry.name.startswith("."):
            yield from _folder_files(entry, also, root, depth + 1)
        elif entry.is_file() and _is_wanted(relative, also):
            stat = entry.stat()
            yield SourceFile(str(relative), stat.st_size, stat.st_mtime_ns, path=entry)


def _archive_files(archive: zipfile.ZipFile, also: Collection[str]) -> Iterator[SourceFile]:
    for member in archive.infolist():
        if member.is_dir() or not _is_wanted(PurePosixPath(member.filename), also):
            continue
        if member.flag_bits & 0x1:
            raise ValueError(f"{archive.filename}: {member.filename} is encrypted: extract it with the password first")
        yield SourceFile(member.filename, member.file_size, member.CRC, archive=archive)
