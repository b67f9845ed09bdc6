# ruff: noqa: RUF012 -- nobody changes the lists
"""Tiny downloads of the data sets besides BTCV, in their documented layout, that a test can damage in one place.

Label numbers and case lists are written out here from the documentation that the converters name, not taken from them.
"""

import json
import zipfile
from pathlib import Path

import numpy as np
import SimpleITK as sitk

SHAPE_ZYX = (4, 16, 18)


def write_volume(path: Path, voxels: np.ndarray, spacing=(0.8, 0.8, 3.0), origin=(-50.0, 40.0, 10.0)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    sitk.WriteImage(image, str(path))


class Tree:
    """``root/<folder of the data set>/...``; the cases of each part are in ``training``, ``validation``, ``test``."""

    command = ""
    to_btcv: dict[int, int] = {}
    absent: list[str] = []
    training: list[str] = []
    validation: list[str] = []
    test: list[str] = []
    test_is_labelled = True
    shape_zyx = SHAPE_ZYX

    def __init__(self, root: Path, name: str) -> None:
        self.root = root
        self.folder = root / name

    @property
    def cases(self) -> list[str]:
        return [*self.training, *self.validation, *self.test]

    def image_path(self, case: str) -> Path:
        raise NotImplementedError

    def label_path(self, case: str) -> Path:
        raise NotImplementedError

    def image_voxels(self, case: str) -> np.ndarray:
        """(Z, Y, X) int16, air to bone."""
        voxels = self._random(case).integers(-1000, 1200, self.shape_zyx).astype(np.int16)
        voxels.flat[:2] = -1000, 900
        return voxels

    def label_voxels(self, case: str) -> np.ndarray:
        """(Z, Y, X) uint8 in the data set's own numbers, each of which occurs."""
        voxels = self._random(case + "label").integers(0, len(self.to_btcv), self.shape_zyx).astype(np.uint8)
        voxels.flat[: len(self.to_btcv)] = list(self.to_btcv)
        return voxels

    def btcv_voxels(self, case: str) -> np.ndarray:
        """(Z, Y, X): what the converted label map must hold."""
        return np.vectorize(self.to_btcv.__getitem__, otypes=[np.uint8])(self.label_voxels(case))

    def write(self) -> "Tree":
        for case in self.cases:
            write_volume(self.image_path(case), self.image_voxels(case))
            if case not in self.test or self.test_is_labelled:
                self.write_label(case, self.label_voxels(case))
        self.write_tables()
        return self

    def write_label(self, case: str, voxels: np.ndarray, **geometry) -> None:
        write_volume(self.label_path(case), voxels, **geometry)

    def write_tables(self) -> None:
        """Write the files beside the images."""

    def remove_case(self, case: str) -> None:
        self.image_path(case).unlink()
        self.label_path(case).unlink(missing_ok=True)

    def zip(self) -> Path:
        path = self.root / "download.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(self.folder.rglob("*")):
                archive.write(file, file.relative_to(self.root))
        return path

    @staticmethod
    def _random(case: str) -> np.random.Generator:
        return np.random.default_rng(list(case.encode()))


class FolderTree(Tree):
    """Images and labels in ``imagesTr``, ``labelsTr`` and so on."""

    endings = ("Tr", "Va", "Ts")

    def _ending(self, case: str) -> str:
        return next(
            ending
            for ending, part in zip(self.endings, (self.training, self.validation, self.test), strict=True)
            if case in part
        )

    def image_path(self, case: str) -> Path:
        return self.folder / f"images{self._ending(case)}" / f"{case}.nii.gz"

    def label_path(self, case: str) -> Path:
        return self.folder / f"labels{self._ending(case)}" / f"{case}.nii.gz"


class AmosTree(FolderTree):
    command = "amos"
    to_btcv = {0: 0, 1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 6, 7: 7, 8: 8, 9: 9, 10: 11, 11: 12, 12: 13, 13: 0, 14: 0, 15: 0}
    absent = ["portal_and_splenic_veins"]
    training = ["amos_0001", "amos_0004", "amos_0500"]
    validation = ["amos_0008"]
    test = ["amos_0002"]
    test_is_labelled = False
    names = (
        "background,spleen,right kidney,left kidney,gall bladder,esophagus,liver,stomach,arota,postcava,pancreas,"
        "right adrenal gland,left adrenal gland,duodenum,bladder,prostate/uterus"
    )

    def __init__(self, root: Path) -> None:
        super().__init__(root, "amos22")

    def write_tables(self, **changes) -> None:
        both = {part: [self._entry(case, True) for case in getattr(self, part)] for part in ("training", "validation")}
        content = {
            "name": "AMOS",
            "labels": {str(number): name for number, name in enumerate(self.names.split(","))},
            **both,
            "test": [self._entry(case, False) for case in self.test],
        }
        (self.folder / "dataset.json").write_text(json.dumps(content | changes))

    def _entry(self, case: str, labelled: bool) -> dict[str, str]:
        paths = {"image": self.image_path(case)} | ({"label": self.label_path(case)} if labelled else {})
        return {key: f"./{path.relative_to(self.folder)}" for key, path in paths.items()}

    def add_mr(self) -> "AmosTree":
        for part, case in (("Tr", "amos_0507"), ("Va", "amos_0600")):
            write_volume(self.folder / f"images{part}" / f"{case}.nii.gz", self.image_voxels(case).clip(0))
            write_volume(self.folder / f"labels{part}" / f"{case}.nii.gz", self.label_voxels(case))
        return self


class FlareTree(Tree):
    command = "flare"
    to_btcv = {0: 0, 1: 6, 2: 2, 3: 1, 4: 11, 5: 8, 6: 9, 7: 12, 8: 13, 9: 4, 10: 5, 11: 7, 12: 0, 13: 3}
    absent = ["portal_and_splenic_veins"]
    training = [f"FLARE22_Tr_{number:04d}" for number in range(1, 51)]
    test = ["FLARETs_0001"]
    shape_zyx = (2, 8, 9)

    def __init__(self, root: Path) -> None:
        super().__init__(root, "FLARE2022")

    def _folder(self, case: str) -> Path:
        return self.folder / ("Tuning" if case in self.test else "Training/FLARE22_LabeledCase50")

    def image_path(self, case: str) -> Path:
        return self._folder(case) / "images" / f"{case}_0000.nii.gz"

    def label_path(self, case: str) -> Path:
        return self._folder(case) / "labels" / f"{case}.nii.gz"


class WordTree(FolderTree):
    command = "word"
    to_btcv = {0: 0, 1: 6, 2: 1, 3: 3, 4: 2, 5: 7, 6: 4, 7: 5, 8: 11} | dict.fromkeys(range(9, 17), 0)
    absent = [
        "aorta",
        "inferior_vena_cava",
        "portal_and_splenic_veins",
        "right_adrenal_gland",
        "left_adrenal_gland",
    ]
    endings = ("Tr", "Val", "Ts")
    training = [f"word_{number:04d}" for number in range(2, 102)]
    validation = [f"word_{number:04d}" for number in (1, *range(102, 121))]
    test = [f"word_{number:04d}" for number in range(121, 151)]
    shape_zyx = (2, 8, 9)
    names = (
        "background,liver,spleen,left_kidney,right_kidney,stomach,gallbladder,esophagus,pancreas,duodenum,colon,"
        "intestine,adrenal,rectum,bladder,Head_of_femur_L,Head_of_femur_R"
    )

    def __init__(self, root: Path) -> None:
        super().__init__(root, "WORD-V0.1.0")

    def write_tables(self) -> None:
        labels = {f"{number:02d}": name for number, name in enumerate(self.names.split(","))}
        (self.folder / "dataset.json").write_text(json.dumps({"name": "WORD", "labels": labels}))


class TotalSegmentatorTree(Tree):
    command = "totalsegmentator"
    to_btcv = {number: number for number in range(14)}
    training = ["s0000", "s0001", "s0003"]
    validation = ["s0004"]
    test = ["s0011"]
    classes = (
        "spleen",
        "kidney_right",
        "kidney_left",
        "gallbladder",
        "esophagus",
        "liver",
        "stomach",
        "aorta",
        "inferior_vena_cava",
        "portal_vein_and_splenic_vein",
        "pancreas",
        "adrenal_gland_right",
        "adrenal_gland_left",
    )

    def __init__(self, root: Path) -> None:
        super().__init__(root, "Totalsegmentator_dataset_v201")

    def image_path(self, case: str) -> Path:
        return self.folder / case / "ct.nii.gz"

    def label_path(self, case: str, name: str = "liver") -> Path:
        return self.folder / case / "segmentations" / f"{name}.nii.gz"

    def write_label(self, case: str, voxels: np.ndarray, **geometry) -> None:
        for number, name in enumerate(self.classes, start=1):
            write_volume(self.label_path(case, name), (voxels == number).astype(np.uint8), **geometry)
        write_volume(self.label_path(case, "rib_left_1"), (voxels == 0).astype(np.uint8))

    def write_tables(self) -> None:
        rows = ["image_id;age;gender;institute;study_type;split;manufacturer"]
        for part, cases in (("train", self.training), ("val", self.validation), ("test", self.test)):
            rows += [f"{case};61;m;A;ct abdomen;{part};siemens" for case in cases]
        (self.folder / "meta.csv").write_text("\n".join(rows) + "\n", encoding="utf-8-sig")

    def remove_case(self, case: str) -> None:
        for path in (self.folder / case).rglob("*.nii.gz"):
            path.unlink()


TREES: dict[str, type[Tree]] = {tree.command: tree for tree in (AmosTree, FlareTree, WordTree, TotalSegmentatorTree)}
