import json
import warnings

import numpy as np
import pytest
import torch
from monai.transforms import ScaleIntensityRange
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.preprocessing.resampling.default_resampling import resample_data_or_seg_to_shape
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from tests.conftest import set_nnunet_folders
from tests.weights.monai_unetr import HEADS, LAYOUT_NAMES, WINDOW, in_layout, make_unetr
from unetr_nnunet.organs import ORGANS
from unetr_nnunet.weights import imported_model
from unetr_nnunet.weights.checkpoint_file import read_state_dict
from unetr_nnunet.weights.imported_model import write_model_folder
from unetr_nnunet.weights.released_unetr import recognise

MODEL = "nnUNetTrainerUNETR__UNETRImportedPlans__3d_fullres"


@pytest.fixture(scope="module")
def monai_unetr():
    return make_unetr()


@pytest.fixture
def released(monai_unetr):
    return recognise(monai_unetr.state_dict(), "released.pth", heads=HEADS, window=WINDOW)


def stock_predictor(folder):
    """nnU-Net's own predictor on a model folder."""
    predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(folder), ("all",))
    return predictor


def save(state_dict, layout, path):
    if layout != "TorchScript":
        torch.save({"state_dict": in_layout(state_dict, layout)}, path)
        return
    network = make_unetr()
    network.load_state_dict(state_dict)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        torch.jit.save(torch.jit.trace(network, torch.zeros(1, 1, *WINDOW)), path)


@pytest.mark.parametrize("layout", [*LAYOUT_NAMES, "TorchScript"])
def test_logits_of_a_window_are_monais(monai_unetr, layout, tmp_path, monkeypatch):
    set_nnunet_folders(monkeypatch, tmp_path)
    save(monai_unetr.state_dict(), layout, tmp_path / "released.pth")
    network = recognise(read_state_dict(tmp_path / "released.pth"), "released.pth", heads=HEADS, window=WINDOW)
    predictor = stock_predictor(write_model_folder(network, "released.pth", tmp_path / "model"))
    window = torch.rand(1, 1, *WINDOW, generator=torch.Generator().manual_seed(0))  # (1, 1, x, y, z)
    with torch.inference_mode():
        expected = monai_unetr(window)
        got = predictor.network.eval()(window.permute(0, 1, 4, 3, 2)).permute(0, 1, 4, 3, 2)
    assert (got - expected).abs().max() <= 1e-3
    assert (got.argmax(1) == expected.argmax(1)).float().mean() > 0.9999
    assert torch.bincount(expected.argmax(1).flatten(), minlength=14).gt(0).sum() > 5, "a label map of noise"


@pytest.mark.slow
def test_logits_of_the_paper_s_window_are_monais(tmp_path, monkeypatch):
    set_nnunet_folders(monkeypatch, tmp_path)
    monai = make_unetr((96, 96, 96), feature_size=16, hidden_size=768, mlp_dim=3072, num_heads=12)
    torch.save(in_layout(monai.state_dict(), "0.6.0-perceptron"), tmp_path / "released.pth")
    released = recognise(read_state_dict(tmp_path / "released.pth"), "released.pth")
    predictor = stock_predictor(write_model_folder(released, "released.pth", tmp_path / "model"))
    window = torch.rand(1, 1, 96, 96, 96)
    with torch.inference_mode():
        got = predictor.network.eval()(window.permute(0, 1, 4, 3, 2)).permute(0, 1, 4, 3, 2)
        assert (got - monai(window)).abs().max() <= 1e-3


def test_the_folder_is_complete(released, tmp_path, monkeypatch):
    set_nnunet_folders(monkeypatch, tmp_path)
    output = tmp_path / "nnUNet_results" / "Dataset017_BTCV"
    folder = write_model_folder(released, "weights/released.pth", output)
    assert folder == output / MODEL
    assert sorted(str(path.relative_to(output)) for path in output.rglob("*") if path.is_file()) == [
        f"{MODEL}/dataset.json",
        f"{MODEL}/fold_all/checkpoint_final.pth",
        f"{MODEL}/plans.json",
    ]
    predictor = stock_predictor(folder)
    assert predictor.allowed_mirroring_axes is None
    assert predictor.trainer_name == "nnUNetTrainerUNETR"
    configuration = predictor.configuration_manager
    assert list(configuration.patch_size) == [64, 48, 32]
    assert list(configuration.spacing) == [2.0, 1.5, 1.5]
    assert predictor.plans_manager.dataset_name == "Dataset017_BTCV"
    assert predictor.plans_manager.image_reader_writer_class.__name__ == "NibabelIOWithReorient"
    assert predictor.plans_manager.experiment_planner_class.__name__ == "ExperimentPlanner"
    assert predictor.label_manager.num_segmentation_heads == 14
    dataset = json.loads((folder / "dataset.json").read_text())
    assert dataset["labels"] == {"background": 0, **{organ.name: organ.id for organ in ORGANS}}
    assert dataset["channel_names"] == {"0": "CT"}
    assert "released.pth" in dataset["description"]
    assert "weights" not in dataset["description"]
    assert folder.stat().st_mode & 0o777 == (tmp_path / "nnUNet_results").stat().st_mode & 0o777


def test_intensities_are_mapped_as_monais(released):
    plans = PlansManager(imported_model.imported_plans(released, "Dataset001_X"))
    scheme = plans.get_configuration("3d_fullres").normalization_schemes[0]
    assert scheme == "CTNormalization"
    from nnunetv2.preprocessing.normalization.default_normalization_schemes import CTNormalization

    hu = np.linspace(-1100, 3000, 1000, dtype=np.float32).reshape(10, 10, 10)
    properties = plans.foreground_intensity_properties_per_channel["0"]
    got = CTNormalization(use_mask_for_norm=False, intensityproperties=properties).run(hu.copy())
    expected = ScaleIntensityRange(a_min=-175, a_max=250, b_min=0, b_max=1, clip=True)(hu)
    np.testing.assert_allclose(got, np.asarray(expected), atol=1e-6)


def test_images_are_resampled_linearly(released):
    plans = PlansManager(imported_model.imported_plans(released, "Dataset001_X"))
    resample = plans.get_configuration("3d_fullres").resampling_fn_data
    assert resample.func is resample_data_or_seg_to_shape
    # thick slices, which nnU-Net's default would resample to the nearest one
    steps = np.zeros((1, 4, 8, 8))
    steps[:, 2:] = 1
    got = resample(steps, (8, 8, 8), (5.0, 1.0, 1.0), (2.5, 1.0, 1.0))[0, :, 0, 0]
    np.testing.assert_allclose(got, [0, 0, 0, 0.25, 0.75, 1, 1, 1], atol=1e-6)


def test_other_label_sets_get_numbered_names():
    released = recognise(make_unetr(out_channels=4).state_dict(), "file", heads=HEADS, window=WINDOW)
    labels = imported_model.dataset_json(released.out_channels, "file")["labels"]
    assert labels == {"background": 0, "class_1": 1, "class_2": 2, "class_3": 3}


@pytest.mark.parametrize(
    ("changes", "fact"),
    [({"in_channels": 4}, r"takes 4 image channels, .*--for"), ({"out_channels": 1}, "has one output")],
    ids=["channels", "outputs"],
)
def test_models_that_are_no_ct_models_are_refused(tmp_path, changes, fact):
    released = recognise(make_unetr(**changes).state_dict(), "file", heads=HEADS, window=WINDOW)
    with pytest.raises(ValueError, match=f"file {fact}"):
        write_model_folder(released, "file", tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_an_existing_model_is_kept_or_replaced(released, tmp_path):
    folder = write_model_folder(released, "first.pth", tmp_path)
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"exists already and was left as it is; --overwrite"):
        write_model_folder(released, "second.pth", tmp_path)
    assert "first.pth" in (folder / "dataset.json").read_text()
    write_model_folder(released, "second.pth", tmp_path, overwrite=True)
    assert "second.pth" in (folder / "dataset.json").read_text()
    assert not (folder / "notes.txt").exists()
    assert [path.name for path in tmp_path.iterdir()] == [MODEL]


def test_a_failure_leaves_nothing(released, tmp_path, monkeypatch):
    def full_disk(content, path):
        path.write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(OSError, match="no space left"):
        write_model_folder(released, "file", tmp_path)
    assert list(tmp_path.iterdir()) == []
