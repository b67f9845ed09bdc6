"""Read an NRRD or MetaImage volume, header and voxels in one file or in two.

A header that keeps its voxels in a file a slice is refused: SimpleITK divides by zero, writes beyond its buffers or
fills in zeros where the pattern of their names or a file of theirs is wrong.

SimpleITK does not notice damage inside their compressed voxels: the checksum is checked here, and before memory is
taken for what a header promises, that the file can hold it.
Formats: https://teem.sourceforge.net/nrrd/format.html, https://itk.org/Wiki/ITK/MetaIO/Documentation
"""

import math
import os
import re
from pathlib import Path

import SimpleITK as sitk

from unetr_nnunet.images.meta_header import meta_header_defect
from unetr_nnunet.images.nifti_stream import GZIP_OR_ZLIB_WINDOW_BITS, DamagedFileError, gunzip_chunks
from unetr_nnunet.images.voxel_values import refuse_not_finite

_MOST_COMPRESSED = 50_000
"""Zeros packed by bzip2, the best that either format knows; a header that promises more bytes is wrong."""
_HEADER_BYTES = 1 << 20
_LONGEST_NAME = 255
_NRRD_END = re.compile(rb"\r?\n\r?\n")
_META_END = re.compile(rb"^ElementDataFile\s*[=:]\s*LOCAL\s*?\r?\n", re.IGNORECASE | re.MULTILINE)
_DATA_FILE = re.compile(
    rb"(?:^|(?<=\r))(?:data ?file\s*:|ElementDataFile\s*[=:])[^\S\r\n]*([^\r\n]*)", re.IGNORECASE | re.MULTILINE
)
_DEFLATED = re.compile(
    rb"^(?:encoding\s*:\s*(?:gz|gzip)|CompressedData\s*[=:]\s*True)\s*$", re.IGNORECASE | re.MULTILINE
)
_RAW = re.compile(rb"^(?:encoding\s*:\s*raw|CompressedData\s*[=:]\s*False)\s*$", re.IGNORECASE | re.MULTILINE)
_SKIP = re.compile(rb"^(?:byte|line) ?skip\s*:\s*(?!0\s*$)", re.IGNORECASE | re.MULTILINE)

_SPACING = re.compile(
    rb"^(?:spacings\s*:|space directions\s*:|ElementSpacing\s*[=:])(.*)$", re.IGNORECASE | re.MULTILINE
)
_VECTOR = re.compile(rb"\([^)]*\)|[^\s()]+")


def read_itk_volume(path: Path) -> sitk.Image:
    """Read a volume.

    Args:
        path: of an ``.nrrd``, ``.nhdr``, ``.mha`` or ``.mhd`` file.

    Returns:
        The image, 3-D, in the stored type.

    Raises:
        ValueError: damaged, cut short, or not one 3-D volume of single finite values.
    """
    with path.open("rb") as stream:
        start = stream.read(_HEADER_BYTES)
    is_meta = path.suffix.lower() in (".mha", ".mhd")
    defect = meta_header_defect(start) if is_meta else ""
    if defect:
        raise ValueError(f"{path} cannot be read: {defect}")
    end = (_META_END if is_meta else _NRRD_END).search(start)
    if not end and len(start) == _HEADER_BYTES and not is_meta:
        raise ValueError(f"{path} cannot be read: its header has no end in {_HEADER_BYTES} bytes")
    header = start[: end.end()] if end else start
    data = _data_file(path, header)
    reader = sitk.ImageFileReader()
    reader.SetImageIO("MetaImageIO" if is_meta else "NrrdImageIO")
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        promised_bytes = _promised_bytes(path, reader)
        _refuse_wrong_spacing(path, header)
        _refuse_damage(path, header, data, promised_bytes)
        image = reader.Execute()
    except RuntimeError as error:
        raise ValueError(f"{path} cannot be read: {itk_reason(error)}") from error
    collapse = sitk.ExtractImageFilter.DIRECTIONCOLLAPSETOSUBMATRIX
    while image.GetDimension() > 3:
        image = sitk.Extract(image, (*image.GetSize()[:-1], 0), directionCollapseToStrategy=collapse)
    refuse_not_finite(sitk.GetArrayViewFromImage(image), str(path))
    return image


def itk_reason(error: RuntimeError) -> str:
    """Return the last line of a SimpleITK error, the one that says what is wrong, without addresses in memory."""
    return re.sub(r"\(0x[0-9a-f]+\)", "", str(error).strip().splitlines()[-1])


def _promised_bytes(path: Path, reader: sitk.ImageFileReader) -> int:
    """Return the size of the voxels by the header; refuse what is not one 3-D volume of single real values."""
    size = reader.GetSize()
    while len(size) > 3 and size[-1] == 1:
        size = size[:-1]
    if len(size) != 3:
        raise ValueError(f"{path} is {len(size)}-dimensional (size {size}); one 3-D volume is needed")
    if min(size) < 1:
        raise ValueError(f"{path} holds no voxels (size {size})")
    kind = sitk.GetPixelIDValueAsString(reader.GetPixelID())
    if reader.GetNumberOfComponents() != 1 or "complex" in kind:
        raise ValueError(f"{path} holds more than one value a voxel ({kind}), such as a colour image; one is needed")
    return math.prod(size) * sitk.Image([1, 1], reader.GetPixelID()).GetSizeOfPixelComponent()


def _refuse_wrong_spacing(path: Path, header: bytes) -> None:
    """Refuse spacing that SimpleITK makes something of: 1 mm of NaN or none, a direction of a sign."""
    match = _SPACING.search(header)
    vectors = _VECTOR.findall(match[1])[:3] if match else []
    try:
        numbers = [float(number) for vector in vectors for number in vector.strip(b"()").split(b",")]
    except ValueError:  # such as "none"
        numbers = []
    if len(vectors) < 3 or not numbers or not all(map(math.isfinite, numbers)):
        raise ValueError(f"{path} does not tell its spacing along all axes: write it into its header, in mm")
    if b"(" not in vectors[0] and min(numbers) < 0:
        written = os.fsdecode(match[1]).strip() if match else ""
        raise ValueError(f"{path} has negative spacing, {written!r}; each must be above 0")


def _refuse_damage(path: Path, header: bytes, data: Path, promised_bytes: int) -> None:
    """Refuse voxels that are fewer than the header promises, or whose checksum is wrong."""
    offset = len(header) if data == path else 0
    stored_bytes = data.stat().st_size - offset
    if _DEFLATED.search(header) and not _SKIP.search(header):
        with data.open("rb") as stream:
            stream.seek(offset)
            try:
                stored_bytes = sum(map(len, gunzip_chunks(stream, GZIP_OR_ZLIB_WINDOW_BITS)))
            except DamagedFileError as error:
                raise ValueError(f"{data} is damaged: {error}") from error
        most_bytes = stored_bytes
    else:
        most_bytes = stored_bytes * (1 if _RAW.search(header) else _MOST_COMPRESSED)
    if most_bytes < promised_bytes:
        raise ValueError(f"{data} is cut short: {stored_bytes} bytes where its header promises {promised_bytes}")


def _data_file(path: Path, header: bytes) -> Path:
    """Return the file that holds the voxels, which may be the header's own."""
    names = [os.fsdecode(match[1].strip()) for match in _DATA_FILE.finditer(header)] or ["LOCAL"]
    for name in names:
        if name.upper().startswith("LIST") or "%" in name:
            raise ValueError(f"{path} keeps its voxels in several files ({name[:80]!r}); save it as one file")
    if names[0].upper() == "LOCAL":
        return path
    data = path.parent / names[0]
    if len(os.fsencode(names[0])) > _LONGEST_NAME or not data.is_file():
        raise ValueError(f"{path} keeps its voxels in {names[0][:_LONGEST_NAME]!r}, which is not there")
    return data
