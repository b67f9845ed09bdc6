"""A released UNETR through the stock prediction command, beside MONAI's own pipeline with the same weights.

The weights are random, so that the label map is noise: exchanged axes, a flip or a shifted window change most of it.
"""

from itertools import product
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from monai.transforms import Compose, EnsureChannelFirst, LoadImage, Orientation, ScaleIntensityRange, Spacing
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from nnunetv2.inference.sliding_window_prediction import compute_gaussian, compute_steps_for_sliding_window

from benchmarks.real_ct import DEFAULT_DATA
from tests.conftest import nnunet_command, set_nnunet_folders
from tests.weights.monai_unetr import HEADS, WINDOW, in_layout, make_unetr
from unetr_nnunet.cli.main import main
from unetr_nnunet.phantom.case import generate_case

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:NvImgCodecPydicomReader"),  # MONAI's, of a reader that is not used
]

ORIENTATIONS = {
    "phantom": ("RAS", "LPS", "LAS", "PIR"),
    "abdomen": ("RAS", "LPS", "LAS"),
    "slab": ("RAS", "LPS", "LAS"),
}


def phantom() -> nibabel.Nifti1Image:
    """A part of a phantom, taken to lie on the released model's grid, and mirrored to fill more than one window."""
    volume = generate_case(1, "demo", 0).image_hu[:, 20:80, 30:90].transpose(2, 1, 0)  # (x, y, z)
    volume = np.concatenate((volume, volume[:, :, ::-1]), axis=2)[:, :, :80]
    affine = np.diag([-1.5, -1.5, 2.0, 1.0])
    affine[:3, 3] = (31.0, -12.5, 207.25)
    return nibabel.Nifti1Image(np.ascontiguousarray(volume), affine)


def real_cts(folder: Path) -> dict[str, nibabel.Nifti1Image]:
    """Parts of two real CTs, at 3 mm and at 0.98 x 0.98 x 2 mm."""
    abdomen = nibabel.load(DEFAULT_DATA / "abdomen_3mm" / "ct.nii.gz")
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(DEFAULT_DATA / "upper_abdomen_slab" / "dicom")))
    sitk.WriteImage(reader.Execute(), str(folder / "slab.nii.gz"))
    slab = nibabel.load(folder / "slab.nii.gz")
    return {"abdomen": abdomen.slicer[40:70, 35:65, 50:80], "slab": slab.slicer[150:250, 180:270]}


def stored_as(image: nibabel.Nifti1Image, axes: str) -> nibabel.Nifti1Image:
    change = ornt_transform(io_orientation(image.affine), axcodes2ornt(axes))
    return image.as_reoriented(change)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    cases = {"phantom": phantom()}
    if DEFAULT_DATA.is_dir():
        cases |= real_cts(tmp_path_factory.mktemp("slab"))
    for name, image in cases.items():
        for axes in ORIENTATIONS[name]:
            nibabel.save(stored_as(image, axes), folder / f"{name}_{axes}_0000.nii.gz")
    return folder


@pytest.fixture(scope="module")
def monai_unetr() -> torch.nn.Module:
    return make_unetr()


@pytest.fixture(scope="module")
def masks(images: Path, monai_unetr: torch.nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Masks of nnUNetv2_predict, in a fresh process that knows the model by its data set number alone."""
    root = tmp_path_factory.mktemp("nnunet")
    torch.save({"state_dict": in_layout(monai_unetr.state_dict(), "0.6.0-perceptron")}, root / "released.pth")
    with pytest.MonkeyPatch.context() as monkeypatch:
        set_nnunet_folders(monkeypatch, root)
        output = str(root / "nnUNet_results" / "Dataset017_BTCV")
        options = ["--heads", str(HEADS), "--window", *map(str, WINDOW)]
        assert main(["import-weights", str(root / "released.pth"), "-o", output, *options]) == 0
        model = ("-d", "17", "-c", "3d_fullres", "-tr", "nnUNetTrainerUNETR", "-p", "UNETRImportedPlans", "-f", "all")
        folders = ("-i", str(images), "-o", str(root / "masks"))
        nnunet_command("nnUNetv2_predict", *model, *folders, "-device", "cpu", "-npp", "0", "-nps", "0")
    return root / "masks"


def monai_labels(path: Path, network: torch.nn.Module) -> np.ndarray:
    """Label map (x, y, z) in RAS by MONAI's transforms, on nnU-Net's windows with their weights, both in float16."""
    transforms = Compose(
        [
            LoadImage(image_only=True),
            EnsureChannelFirst(),
            Orientation(axcodes="RAS", labels=(("L", "R"), ("P", "A"), ("I", "S"))),
            Spacing(pixdim=(1.5, 1.5, 2.0), mode="bilinear"),
            ScaleIntensityRange(a_min=-175, a_max=250, b_min=0, b_max=1, clip=True),
        ]
    )
    image = torch.as_tensor(np.asarray(transforms(path)))[None]  # (1, 1, x, y, z)
    weight = compute_gaussian(WINDOW, value_scaling_factor=10, device=torch.device("cpu"))
    total = torch.zeros(image.shape[2:], dtype=torch.half)
    logits = torch.zeros(14, *total.shape, dtype=torch.half)
    for start in product(*compute_steps_for_sliding_window(tuple(image.shape[2:]), WINDOW, 0.5)):
        window = tuple(slice(first, first + length) for first, length in zip(start, WINDOW, strict=True))
        with torch.inference_mode():
            logits[(slice(None), *window)] += network(image[(slice(None), slice(None), *window)])[0] * weight
        total[window] += weight
    return (logits / total).argmax(0).numpy()


def canonical(path: Path) -> nibabel.Nifti1Image:
    return nibabel.as_closest_canonical(nibabel.load(path))


def test_labels_are_those_of_monais_pipeline(images: Path, masks: Path, monai_unetr: torch.nn.Module) -> None:
    expected = monai_labels(images / "phantom_LPS_0000.nii.gz", monai_unetr)
    got = np.asarray(canonical(masks / "phantom_LPS.nii.gz").dataobj)
    assert np.mean(got == expected) >= 0.999
    assert np.unique(expected).size > 5, "a label map of noise"
    for axis in range(3):
        assert np.mean(got == np.flip(expected, axis)) < 0.7, "a flip would show"


@pytest.mark.parametrize("case", ORIENTATIONS)
def test_masks_do_not_depend_on_how_an_image_is_stored(images: Path, masks: Path, case: str) -> None:
    if not (images / f"{case}_RAS_0000.nii.gz").exists():
        pytest.skip("the real CTs are not on this machine")
    expected = canonical(masks / f"{case}_RAS.nii.gz")
    labels = np.asarray(expected.dataobj)
    assert np.unique(labels).size > 4
    for axes in ORIENTATIONS[case]:
        stored, image = (
            nibabel.load(masks / f"{case}_{axes}.nii.gz"),
            nibabel.load(images / f"{case}_{axes}_0000.nii.gz"),
        )
        assert stored.shape == image.shape
        np.testing.assert_allclose(stored.affine, image.affine, atol=1e-3)
        got = canonical(masks / f"{case}_{axes}.nii.gz")
        np.testing.assert_allclose(got.affine, expected.affine, atol=1e-3)
        assert np.mean(np.asarray(got.dataobj) == labels) >= 0.9999
