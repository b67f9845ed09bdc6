"""Read NRRD and MetaImage volumes, header and voxels in one file or in two.

SimpleITK decodes them, but it trusts a header: where one is broken it writes beyond its buffers, opens whatever file
is named, or fills in zeros, and damage inside compressed voxels goes unnoticed. Therefore headers are checked first,
voxels must lie in one file beside the header, and the checksum of compressed ones is computed before memory is taken
for what a header promises.
Formats: https://teem.sourceforge.net/nrrd/format.html, https://itk.org/Wiki/ITK/MetaIO/Documentation
"""

import math
import os
import re
from dataclasses import dataclass
from pathlib import Path

import SimpleITK as sitk

from unetr_nnunet.images.compressed import GZIP_OR_ZLIB, DamagedFileError, gunzip_chunks
from unetr_nnunet.images.files import in_utf8

HEADER_ENDINGS = (".nrrd", ".nhdr", ".mha", ".mhd")
_META_ENDINGS = (".mha", ".mhd")
_MOST_COMPRESSED = 50_000
"""Zeros packed by bzip2, the best that either format knows; a header that promises more bytes is wrong."""
_HEADER_BYTES = 1 << 20
_LONGEST_NAME = 255
_NRRD_END = re.compile(rb"\r?\n\r?\n")
_META_END = re.compile(rb"^ElementDataFile\s*[=:]\s*LOCAL\s*?\r?\n", re.IGNORECASE | re.MULTILINE)
# What follows is for headers whose lines end with a newline alone.
_DATA_FILE = re.compile(rb"^[ \t]*(?:data ?file\s*:|ElementDataFile\s*[=:])[ \t]*(.*)", re.IGNORECASE | re.MULTILINE)
_DEFLATED = re.compile(
    rb"^(?:encoding\s*:\s*(?:gz|gzip)|CompressedData\s*[=:]\s*[t1]\S*)\s*$", re.IGNORECASE | re.MULTILINE
)
_RAW = re.compile(rb"^(?:encoding\s*:\s*raw|CompressedData\s*[=:]\s*False)\s*$", re.IGNORECASE | re.MULTILINE)
_SKIP = re.compile(rb"^(?:byte|line) ?skip\s*:\s*(?!0\s*$)", re.IGNORECASE | re.MULTILINE)
_SPACING = re.compile(
    rb"^(?:spacings\s*:|space directions\s*:|ElementSpacing\s*[=:])(.*)$", re.IGNORECASE | re.MULTILINE
)
_VECTOR = re.compile(rb"\([^)]*\)|[^\s()]+")

_META_LINE = re.compile(rb"([A-Za-z0-9][\w.|()\[\]-]{0,79}) *[=:](.{0,1000})")
_CONTROL = re.compile(rb"[\x00-\x08\x0b-\x1f\x7f]")
_VECTORS = frozenset({"DimSize", "ElementSpacing", "ElementSize", "Offset", "Position", "Origin", "CenterOfRotation"})
_MATRICES = frozenset({"TransformMatrix", "Rotation", "Orientation"})
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d{1,3})?|[-+]?(nan|inf)", re.IGNORECASE)
_LONGEST_NUMBER = 40
_LONGEST_FIELD = 500
"""Bytes of a line of an NRRD header; longer ones overflow SimpleITK's error messages. Comments may be long."""
_MOST_DIMENSIONS = 5


@dataclass(frozen=True)
class _Header:
    """What a file says before its voxels.

    Attributes:
        path: the file.
        text: its header, lines ended by a newline.
        size: its bytes as they are in the file.
    """

    path: Path
    text: bytes
    size: int

    @property
    def data_file(self) -> Path:
        """The file of the voxels, which may be the header's own.

        Raises:
            ValueError: there are several, or one that does not lie beside or below the header.
        """
        names = [os.fsdecode(match[1].strip()) for match in _DATA_FILE.finditer(self.text)] or ["LOCAL"]
        for name in names:
            if name.upper().startswith("LIST") or "%" in name or len(set(names)) > 1:
                raise ValueError(f"keeps its voxels in several files ({in_utf8(name[:80])!r}); save it as one file")
        name = names[0]
        if name.upper() == "LOCAL":
            return self.path
        if in_utf8(name) != name or Path(name).is_absolute() or ".." in Path(name).parts:
            fact = f"keeps its voxels in {in_utf8(name[:_LONGEST_NAME])!r}, outside of its own folder"
            raise ValueError(f"{fact}; save it as one file")
        data = self.path.parent / name
        if len(os.fsencode(name)) > _LONGEST_NAME or not data.is_file():
            raise ValueError(f"keeps its voxels in {name[:_LONGEST_NAME]!r}, which is not there")
        return data


def data_file(path: Path) -> Path:
    """Return the file that holds the voxels of an NRRD or MetaImage header, which may be the header's own.

    Raises:
        ValueError: there are several, or one that does not lie beside or below the header.
        OSError: the header cannot be opened.
    """
    try:
        return _read_header(path).data_file
    except ValueError as error:
        raise ValueError(f"{path} {error}") from error


def read_itk(path: Path) -> sitk.Image:
    """Read a volume.

    Args:
        path: of an ``.nrrd``, ``.nhdr``, ``.mha`` or ``.mhd`` file.

    Returns:
        The image, 3-D, in the stored type.

    Raises:
        ValueError: damaged, cut short, or not one 3-D volume of single values.
    """
    header = _read_header(path)
    data = header.data_file
    reader = sitk.ImageFileReader()
    reader.SetImageIO("MetaImageIO" if _is_meta(path) else "NrrdImageIO")
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        promised_bytes = _promised_bytes(reader)
        _refuse_wrong_spacing(header)
        _refuse_damage(header, data, promised_bytes)
        image = reader.Execute()
    except RuntimeError as error:
        raise ValueError(f"cannot be read: {itk_reason(error)}") from error
    collapse = sitk.ExtractImageFilter.DIRECTIONCOLLAPSETOSUBMATRIX
    while image.GetDimension() > 3:
        image = sitk.Extract(image, (*image.GetSize()[:-1], 0), directionCollapseToStrategy=collapse)
    return image


def itk_reason(error: RuntimeError) -> str:
    """Return the last line of a SimpleITK error, the one that says what is wrong, without addresses in memory."""
    return re.sub(r"\(0x[0-9a-f]+\)", "", str(error).strip().splitlines()[-1])


def _is_meta(path: Path) -> bool:
    return path.suffix.lower() in _META_ENDINGS


def _read_header(path: Path) -> _Header:
    with path.open("rb") as stream:
        start = stream.read(_HEADER_BYTES)
    end = (_META_END if _is_meta(path) else _NRRD_END).search(start)
    if not end and len(start) == _HEADER_BYTES:
        raise ValueError(f"cannot be read: its header has no end in {_HEADER_BYTES} bytes")
    header = start[: end.end()] if end else start
    text = header.replace(b"\r\n", b"\n")
    if not _is_meta(path):
        text = text.replace(b"\r", b"\n")  # ends a line of NRRD, too
    if defect := meta_header_defect(text) if _is_meta(path) else nrrd_header_defect(text):
        raise ValueError(f"cannot be read: {defect}")
    return _Header(path, text, len(header))


def _promised_bytes(reader: sitk.ImageFileReader) -> int:
    """Return the size of the voxels by the header; refuse what is not one 3-D volume of single real values."""
    size = reader.GetSize()
    while len(size) > 3 and size[-1] == 1:
        size = size[:-1]
    if len(size) != 3:
        raise ValueError(f"is {len(size)}-dimensional (size {size}); one 3-D volume is needed")
    if min(size) < 1:
        raise ValueError(f"holds no voxels (size {size})")
    kind = sitk.GetPixelIDValueAsString(reader.GetPixelID())
    if reader.GetNumberOfComponents() != 1 or "complex" in kind:
        raise ValueError(f"holds more than one value a voxel ({kind}), such as a colour image; one is needed")
    return math.prod(size) * sitk.Image([1, 1], reader.GetPixelID()).GetSizeOfPixelComponent()


def _refuse_wrong_spacing(header: _Header) -> None:
    """Refuse spacing that SimpleITK makes something of: 1 mm of NaN or none, a direction of a sign."""
    match = _SPACING.search(header.text)
    vectors = _VECTOR.findall(match[1])[:3] if match else []
    try:
        numbers = [float(number) for vector in vectors for number in vector.strip(b"()").split(b",")]
    except ValueError:  # such as "none"
        numbers = []
    if len(vectors) < 3 or not numbers or not all(map(math.isfinite, numbers)):
        raise ValueError("does not give its spacing along all axes: write it into its header, in mm")
    if b"(" not in vectors[0] and min(numbers) < 0:
        written = os.fsdecode(match[1]).strip() if match else ""
        raise ValueError(f"has negative spacing, {written!r}; each must be above 0")


def _refuse_damage(header: _Header, data: Path, promised_bytes: int) -> None:
    """Refuse voxels that are fewer than the header promises, or whose checksum is wrong."""
    offset = header.size if data == header.path else 0
    stored_bytes = data.stat().st_size - offset
    if _DEFLATED.search(header.text) and not _SKIP.search(header.text):
        with data.open("rb") as stream:
            stream.seek(offset)
            try:
                stored_bytes = sum(map(len, gunzip_chunks(stream, GZIP_OR_ZLIB)))
            except DamagedFileError as error:
                raise ValueError(f"is damaged: {data.name} {error}") from error
        most_bytes = stored_bytes
    else:
        most_bytes = stored_bytes * (1 if _RAW.search(header.text) else _MOST_COMPRESSED)
    if most_bytes < promised_bytes:
        raise ValueError(f"is cut short: {stored_bytes} bytes of voxels where its header promises {promised_bytes}")


def nrrd_header_defect(header: bytes) -> str:
    """Say what is wrong with an NRRD header, "" where nothing is that would end the process.

    Args:
        header: beginning of the file, lines ended by a newline.
    """
    for number, line in enumerate(header.split(b"\n\n")[0].split(b"\n"), start=1):
        if len(line) > _LONGEST_FIELD and not line.startswith(b"#") and b":=" not in line:
            return f"line {number} of its header is longer than {_LONGEST_FIELD} bytes"
    return ""


def meta_header_defect(header: bytes) -> str:
    """Say what is wrong with a MetaImage header, "" where nothing is.

    Args:
        header: beginning of the file, lines ended by a newline.
    """
    values: dict[str, str] = {}
    for line in header.split(b"\n"):
        match = _META_LINE.fullmatch(line)
        if not match or _CONTROL.search(line):
            return f"line {len(values) + 1} of its header is no 'key = value'"
        key = match[1].decode()
        if key in values:
            return f"its header holds {key} twice"
        values[key] = match[2].decode(errors="replace").strip()
        if key == "ElementDataFile":
            return _wrong_value(values)
    return "its header has no ElementDataFile"


def _wrong_value(values: dict[str, str]) -> str:
    dimensions = values.get("NDims", "")
    if not dimensions.isdecimal() or not 1 <= int(dimensions) <= _MOST_DIMENSIONS:
        return f"its header says NDims = {dimensions or 'nothing'}"
    if not values["ElementDataFile"]:
        return "its header names no data file"
    for key, value in values.items():
        count = int(dimensions) if key in _VECTORS else int(dimensions) ** 2 if key in _MATRICES else 0
        numbers = value.split() if count else []
        if len(numbers) != count or not all(_NUMBER.fullmatch(n) and len(n) <= _LONGEST_NUMBER for n in numbers):
            return f"its header says {key} = {value[:80]}, where {count} numbers belong"
    return ""
