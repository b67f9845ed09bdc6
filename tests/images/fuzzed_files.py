"""Feed broken image files to every way by which commands read them, in a process of its own: readers are C and C++.

usage: python -m tests.images.fuzzed_files SEED FILES FOLDER

FOLDER/given holds the files, FOLDER/outside what must never be read: voxels of which each byte is ``SECRET``. Prints
what is wrong, a line each; a file that ends the process is the last one named in FOLDER/at.
"""

import gzip
import os
import random
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from tests.images.scans import hounsfield, volume, write_series
from unetr_nnunet.dataset_conversion.cases import SourceCase, check_case
from unetr_nnunet.dataset_conversion.label_layers import BTCV_VALUES, LabelLayer
from unetr_nnunet.dataset_conversion.source_files import open_source
from unetr_nnunet.evaluation.folder import evaluate_folder
from unetr_nnunet.images.cases import find_cases
from unetr_nnunet.images.files import stem, volume_files
from unetr_nnunet.images.label_maps import write_mask
from unetr_nnunet.images.orientation import like_input, to_orientation
from unetr_nnunet.images.read import read_case
from unetr_nnunet.report.pictures import read_volumes
from unetr_nnunet.viewer.confinement import GivenPaths
from unetr_nnunet.viewer.scans import Scan, ViewedScans, make_layers

SECRET = 99
ENDINGS = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")
ELSEWHERE = (
    b"../outside/secret.raw", b"{outside}/secret.raw", b"x/../../outside/secret.raw", b"%s%s%s%n.raw 1 3 1", b"LIST",
    b"s%d.raw 0 5 0", b"secret\0.raw", b"f\xfcr.raw", b"", b".", b"/dev/zero", b"~/secret.raw", b"LOCAL", b"link.raw",
)  # fmt: skip


class Maker:
    """Writes broken files into a folder."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.random, self.folder = random.Random(seed), folder
        self.given, self.outside = folder / "given", folder / "outside"
        for path in (self.given, self.outside):
            path.mkdir(parents=True)
        (self.outside / "secret.raw").write_bytes(bytes([SECRET]) * 10_000)

    def volume(self, name: str, image: sitk.Image) -> Path:
        """Write a volume of a random format and break it in a random way."""
        ending = self.random.choice(ENDINGS)
        path = self.given / f"{name}{ending}"
        sitk.WriteImage(image, str(path), self.random.random() < 0.5)
        if self.random.random() < 0.05:  # a whole one
            return path
        content = path.read_bytes()
        packed = ending == ".nii.gz" and self.random.random() < 0.8
        content = gzip.decompress(content) if packed else content
        content = self.random.choice(self._ways(ending))(content)
        path.write_bytes(gzip.compress(content) if packed else content)
        if self.random.random() < 0.05:
            path = path.rename(self.given / os.fsdecode(name.encode() + b"\xfc" + os.fsencode(ending)))
        return path

    def series(self, name: str) -> Path:
        """Write a DICOM series and break one of its files."""
        files = write_series(self.given / name)
        chosen = self.random.choice(files)
        way = self.random.choice([self._patched(128, 900), self._cut, self._patched(0, 140)])
        chosen.write_bytes(way(chosen.read_bytes()))
        return self.given / name

    def _ways(self, ending: str) -> list[Callable[[bytes], bytes]]:
        patched = self._patched(*((0, 352) if ending.startswith(".nii") else (0, 900)))
        ways = [patched, patched, self._cut, self._numbers]
        return (
            ways
            if ending.startswith(".nii")
            else [*ways, self._elsewhere, self._elsewhere, self._line_ends, self._lines]
        )

    def _patched(self, first: int, last: int) -> Callable[[bytes], bytes]:
        def patch(content: bytes) -> bytes:
            result = bytearray(content)
            for _ in range(self.random.randint(1, 4)):
                start = self.random.randrange(first, max(first + 1, min(last, len(content))))
                values = self.random.choice(
                    [b"\xff\xff\xff\x7f", b"\0\0\0\0", b"\0\0\xc0\x7f", self.random.randbytes(3)]
                )
                result[start : start + len(values)] = values
            return bytes(result)

        return patch

    def _cut(self, content: bytes) -> bytes:
        return content[: self.random.randrange(len(content))]

    def _numbers(self, content: bytes) -> bytes:
        """Replace a number in the text of a header."""
        odd = self.random.choice(
            [b"0", b"-1", b"nan", b"inf", b"1e400", b"99999999999", b"none", b"1.0001", b"0.5 0.5"]
        )
        places = list(re.finditer(rb"-?\d+\.?\d*", content[:1200]))
        if not places:
            return self._patched(0, 352)(content)
        place = self.random.choice(places)
        return content[: place.start()] + odd + content[place.end() :]

    def _elsewhere(self, content: bytes) -> bytes:
        """Name a file of voxels that is not the header's."""
        name = self.random.choice(ELSEWHERE[:3] if self.random.random() < 0.5 else ELSEWHERE).replace(
            b"{outside}", os.fsencode(self.outside)
        )
        key = rb"ElementDataFile = .*" if b"ElementDataFile" in content else rb"data file: .*"
        if re.search(key, content):
            line = key.split(b".*")[0] + name
            return self._line_ends(re.sub(key, lambda _: line, content, count=1))
        return self._line_ends(content.replace(b"encoding:", b"data file: " + name + b"\nencoding:", 1))

    def _line_ends(self, content: bytes) -> bytes:
        header, mark, rest = content.partition(b"\n\n")
        end = self.random.choice([b"\n", b"\r", b"\r\n", b"\n "])
        return header.replace(b"\n", end) + (mark if self.random.random() < 0.5 else end * 2) * bool(mark) + rest

    def _lines(self, content: bytes) -> bytes:
        """Repeat, drop or lengthen a line of a header."""
        lines = content.split(b"\n")
        place = self.random.randrange(min(len(lines), 15))
        lines[place] = self.random.choice([lines[place] + b"\n" + lines[0], b"", lines[place] * 500, b"Comment = x"])
        return b"\n".join(lines)


def is_secret(voxels: Any) -> bool:
    """Whether most bytes are those of the file that must not be read; no other file has such."""
    stored = np.ascontiguousarray(voxels)
    as_bytes = np.frombuffer(stored.astype(np.int32, copy=False).tobytes(), np.uint8) if stored.size else np.zeros(1)
    low_bytes = as_bytes.reshape(-1, 4)[:, 0] if stored.size else as_bytes
    return bool(np.mean(low_bytes == SECRET) > 0.5)


def predicted(folder: Path) -> Iterator[str]:
    """`predict`: find, read, turn, turn back, write."""
    for case in find_cases(folder, 1, "CT")[0]:
        _note(folder, f"predict {case.name}")
        try:
            (image,) = read_case(case, "RAS")
        except (ValueError, OSError) as error:
            yield from _one_line("predict", error)
            continue
        axes = np.reshape(image.GetDirection(), (3, 3))
        sound = min(image.GetSpacing()) > 0 and np.isfinite(image.GetOrigin()).all()
        if not (sound and np.allclose(axes.T @ axes, np.eye(3), atol=2e-4)):
            yield f"predict places {case.name} at {image.GetOrigin()} with {image.GetSpacing()} {image.GetDirection()}"
        turned = to_orientation(image, "RAS")
        voxels = sitk.GetArrayFromImage(turned)
        yield from [f"predict read the secret by {case.name}"] * is_secret(voxels)
        yield from [f"predict read NaN by {case.name}"] * (not np.isfinite(voxels).all())
        write_mask(like_input((voxels > 0).astype(np.uint8), turned, image), folder.parent / "mask.nii.gz")


def shown(folder: Path, masks: Path) -> Iterator[str]:
    """`view`: CTs, and masks over them."""
    cases, _ = find_cases(folder, 1)
    scans = [Scan(case.name, case.channels[0], lambda case=case: read_case(case)[0]) for case in cases]  # type: ignore[misc]
    study = ViewedScans(scans, make_layers([masks], None, [scan.name for scan in scans]), GivenPaths([folder, masks]))
    for index, scan in enumerate(study.scans):
        _note(folder, f"view {scan.name}")
        asked: list[Callable[[], bytes]] = [lambda index=index: study.ct(index)]  # type: ignore[misc]
        if scan.name in study.layers[0].masks:
            asked.append(lambda index=index: study.mask(index, 0)[0])  # type: ignore[misc]
        for read in asked:
            try:
                content = read()
            except (ValueError, OSError) as error:
                yield from _one_line("view", error)
                continue
            yield from [f"view read the secret by {scan.name}"] * (content[352:].count(SECRET) > len(content) // 3)


def scored(predictions: Path, labels: Path) -> Iterator[str]:
    """`evaluate`: all that has a label is scored or refused with a reason."""
    _note(predictions, "evaluate")
    evaluation = evaluate_folder(predictions, labels)
    found = set(evaluation.cases) | set(evaluation.refused) | set(evaluation.without_label)
    yield from (f"evaluate lost {path}" for path in volume_files(predictions) if stem(path) not in found)
    yield from ["evaluate failed the sound case"] * ("sound" not in evaluation.cases)
    for reason in evaluation.refused.values():
        yield from [f"evaluate read the secret: {reason}"] * (f"label(s) {SECRET}," in reason)
        yield from _one_line("evaluate", ValueError(reason))


def drawn(label: Path, files: list[Path]) -> Iterator[str]:
    """`report`: what cannot be drawn is said."""
    for path in files:
        _note(label.parent, f"report {path!r}")
        volumes, problems = read_volumes(label, {"model": path}, path)
        yield from [f"report read the secret by {path!r}"] * any(
            array is not None and is_secret(array) for array in (volumes.ct, volumes.predictions["model"])
        )
        yield from (f"report: {problem!r}" for problem in problems if "\n" in problem)


def checked(folder: Path) -> Iterator[str]:
    """`convert`, and the check of raw data sets: every problem is one of its own file."""
    with open_source(folder) as files:
        for file in files:
            _note(folder, f"convert {file.name!r}")
            result = check_case(SourceCase(file, (LabelLayer(file, BTCV_VALUES),)))
            yield from (f"convert: {problem}" for problem in result.problems if problem.file != file.name)


def _one_line(command: str, error: Exception) -> Iterator[str]:
    if not str(error) or "\n" in str(error):
        yield f"{command} says {str(error)!r}"


def _note(folder: Path, at: str) -> None:
    (folder.parent / "at").write_text(ascii(at))


def main(seed: int, number: int, folder: Path) -> None:
    """Make and read files."""
    images, masks = Maker(seed, folder / "images"), Maker(seed + 1, folder / "masks")
    labels = folder / "labels"
    labels.mkdir()
    truth = volume(np.random.default_rng(0).integers(0, 14, hounsfield().shape).astype(np.uint8))
    for index in range(number):
        (images.series if index % 6 == 5 else lambda name: images.volume(name, volume()))(f"case{index}")
        masks.volume(f"case{index}", truth)
        sitk.WriteImage(truth, str(labels / f"case{index}.nii.gz"))
    for target in (masks.given, labels):
        sitk.WriteImage(truth, str(target / "sound.nii.gz"))
    for maker in (images, masks):
        (maker.given / "link.raw").symlink_to(maker.given / "nothing.raw")
    problems = [
        *predicted(images.given),
        *shown(images.given, masks.given),
        *scored(masks.given, labels),
        *drawn(labels / "sound.nii.gz", volume_files(masks.given)),
        *checked(images.given),
        *checked(masks.given),
    ]
    print(*problems, sep="\n")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
