"""Raw data sets as users make them by hand, and ways to damage them."""

import json
from pathlib import Path

import nibabel
import numpy as np

from unetr_nnunet.dataset_conversion.check_raw import check_raw_dataset
from unetr_nnunet.dataset_conversion.problems import ProblemsFoundError


def problems(raw: Path, *, five_folds: bool = True) -> list[str]:
    caught: list[ProblemsFoundError] = []
    try:
        check_raw_dataset(raw, raw.parents[1] / "preprocessed", five_folds=five_folds)
    except ProblemsFoundError as error:
        caught.append(error)
    for error in caught:
        assert all(problem.file and problem.fact and problem.remedy for problem in error.problems)
        assert str(error).startswith(f"{len(error.problems)} problem")
        assert f"in {raw}; nothing was planned or trained:" in str(error)
    return [str(problem) for error in caught for problem in error.problems]


def edit(raw: Path, **changes: object) -> None:
    """Change the ``dataset.json``; None removes a key."""
    path = raw / "dataset.json"
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def rewrite(path: Path, *, shift_mm: float = 0.0, **changes: np.ndarray) -> None:
    image = nibabel.load(path)
    affine = image.affine.copy()
    affine[0, 3] += shift_mm
    voxels = changes.get("voxels", np.asarray(image.dataobj))
    path.unlink()
    nibabel.save(nibabel.Nifti1Image(voxels, affine), path)


def label(raw: Path, case: int = 1) -> Path:
    return raw / "labelsTr" / f"case_{case}.nii.gz"


def image(raw: Path, case: int = 1) -> Path:
    return raw / "imagesTr" / f"case_{case}_0000.nii.gz"
