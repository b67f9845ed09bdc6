"""A clone of OpenKBP's repository, made up or written back from the shared NIfTI files, that a test can damage."""

from pathlib import Path

import nibabel
import numpy as np

SHAPE = (128, 128, 128)
"""Anterior to posterior, right to left, superior to inferior."""
FILES = ("Brainstem", "SpinalCord", "RightParotid", "LeftParotid", "Mandible")
"""By label, from 1."""
MORE_FILES = ("Esophagus", "Larynx")
SPACING_MM = (3.5, 4.0, 2.5)
CORNER = (40, 30, 20)
PLACES = {
    "Brainstem": (6, 8, 1),
    "SpinalCord": (8, 8, 9),
    "RightParotid": (5, 2, 5),
    "LeftParotid": (5, 13, 5),
    "Mandible": (1, 8, 6),
    "Esophagus": (7, 7, 11),
    "Larynx": (3, 8, 10),
}
"""Of each organ's block of 2 x 2 x 2 voxels in the body, whose first voxel is at `CORNER`."""


def part_of(number: int) -> str:
    return "train-pats" if number <= 200 else "validation-pats" if number <= 240 else "test-pats"


def folder_of(clone: Path, number: int) -> Path:
    return clone / "provided-data" / part_of(number) / f"pt_{number}"


def body(number: int) -> np.ndarray:
    """HU + 1024 in the array's axes, air to bone, never 0 at its corners; 12 x 18 x 14 voxels."""
    voxels = np.random.default_rng(number).integers(0, 2500, (12, 18, 14))
    voxels.flat[0] = voxels.flat[-1] = 2500
    return voxels


def write_list(path: Path, indices: np.ndarray, values: np.ndarray | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [f"{index}," for index in indices] if values is None else map("{},{:.1f}".format, indices, values)
    path.write_text("\n".join([",data", *rows]) + "\n")


def write_volume(folder: Path, stored: np.ndarray, contours: dict[str, np.ndarray], spacing_mm, corner=CORNER) -> None:
    """Write a patient of volumes in the array's axes, placed at a corner: HU + 1024, and masks."""

    def places(mask: np.ndarray) -> np.ndarray:
        return np.ravel_multi_index(tuple(np.argwhere(mask).T + np.array(corner)[:, None]), SHAPE)

    write_list(folder / "ct.csv", places(stored), stored[stored != 0])
    for name, mask in contours.items():
        write_list(folder / f"{name}.csv", places(mask))
    (folder / "voxel_dimensions.csv").write_text("".join(f"{size:.18e}\n" for size in spacing_mm))


def write_patient(clone: Path, number: int, lacking: tuple[str, ...] = ()) -> Path:
    """Write a made-up patient, with dose and a target beside what is used."""
    folder, stored = folder_of(clone, number), body(number)
    contours = {}
    for name, start in PLACES.items():
        contours[name] = np.zeros(stored.shape, bool)
        contours[name][tuple(slice(at, at + 2) for at in start)] = name not in lacking
    write_volume(folder, stored, {name: mask for name, mask in contours.items() if mask.any()}, SPACING_MM)
    write_list(folder / "dose.csv", np.arange(3), np.arange(3))
    write_list(folder / "PTV70.csv", np.arange(3))
    return folder


def write_clone_of(shared: Path, clone: Path, cases: list[str]) -> Path:
    """Write cases of the shared NIfTI files back into the repository's layout, at the first corner of its array."""
    for case in cases:
        image = nibabel.as_closest_canonical(nibabel.load(shared / "images" / f"{case}.nii.gz"))
        labels = nibabel.as_closest_canonical(nibabel.load(shared / "labels" / f"{case}.nii.gz"))
        right, front, up = image.header.get_zooms()
        stored, drawn = (
            np.asarray(volume.dataobj).astype(int)[::-1, ::-1, ::-1].transpose(1, 0, 2) for volume in (image, labels)
        )
        contours = {name: drawn == label for label, name in enumerate(FILES, start=1)}
        write_volume(folder_of(clone, int(case[3:])), stored + 1024, contours, (front, right, up), (0, 0, 0))
    return clone
