import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
from nnunetv2.preprocessing.resampling.default_resampling import resample_data_or_seg_to_shape
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from scipy.ndimage import gaussian_filter

from tests.conftest import DATASET, nnunet_command
from tests.planning.conftest import stock_configurations
from unetr_nnunet.planning.planner import UNETRPlanner
from unetr_nnunet.trainers.factory import trainer_class


@pytest.fixture
def plan(make_dataset, instant_memory):
    """Plan data set 17 with instant memory; returns the plans file's content and the planner."""

    def make(gib=24, dataset=None, **options):
        _, preprocessed = make_dataset(**(dataset or {}))
        planner = UNETRPlanner(17, gib, **options)
        planner.plan_experiment()
        assert planner.plans_file.parent == preprocessed
        return json.loads(planner.plans_file.read_text()), planner

    return make


def test_spacing_axes_and_processing_are_nnunets_own(plan):
    plans, planner = plan()
    assert (plans["transpose_forward"], plans["transpose_backward"]) == ([0, 1, 2], [0, 1, 2])
    assert plans["image_reader_writer"] == "NibabelIOWithReorient"
    configuration = plans["configurations"]["3d_fullres"]
    stock = ExperimentPlanner(17)
    assert configuration["spacing"] == list(stock.determine_fullres_target_spacing())
    assert configuration["preprocessor_name"] == "DefaultPreprocessor"
    assert configuration["normalization_schemes"] == ["CTNormalization"]
    data, data_kwargs, seg, seg_kwargs = stock.determine_resampling()
    assert (configuration["resampling_fn_data"], configuration["resampling_fn_data_kwargs"]) == (
        data.__name__,
        data_kwargs,
    )
    assert (configuration["resampling_fn_seg"], configuration["resampling_fn_seg_kwargs"]) == (seg.__name__, seg_kwargs)
    assert planner.spacing_source("3d_fullres").startswith("nnU-Net's rule")


def test_patch_token_and_network(plan):
    plans, planner = plan()
    assert plans["plans_name"] == planner.plans_file.stem == "UNETRPlans_Modified"
    configuration = plans["configurations"]["3d_fullres"]
    assert configuration["architecture"] == {
        "network_class_name": "unetr_nnunet.architectures.planned.build_planned",
        "arch_kwargs": {
            "architecture": "Modified",
            "package": "unetr_nnunet",
            "version": version("unetr_nnunet"),
            "token_size": [4, 16, 16],
        },
        "_kw_requires_import": [],
    }
    step = planner.choices["3d_fullres"].step
    assert configuration["patch_size"] == list(step.patch_size)
    assert configuration["batch_size"] == 2
    assert (step.in_channels, step.out_channels, step.regions) == (1, 14, False)
    flat = plans["configurations"]["2d"]
    assert flat["patch_size"] == [512, 512]
    assert planner.choices["2d"].max_batch_size == round(30 * 130 * 0.05)
    assert flat["batch_size"] == planner.choices["2d"].step.batch_size > 12
    assert flat["architecture"]["arch_kwargs"]["token_size"] == [16, 16]


def test_stock_classes_read_the_plans_and_the_trainer_obeys_them(plan):
    words = {"architecture": "original", "size": "Tiny", "overwrite_target_spacing": (3, 1.5, 1.5)}
    plans, planner = plan(gib=3, **words)
    assert planner.plans_file.stem == "UNETRPlans_original_Tiny"
    manager = PlansManager(str(planner.plans_file))
    configuration = manager.get_configuration("3d_fullres")
    assert configuration.spacing == [3.0, 1.5, 1.5]
    assert planner.spacing_source("3d_fullres") == "given by --spacing"
    assert configuration.preprocessor_class is not None
    assert manager.image_reader_writer_class is not None
    assert configuration.resampling_fn_data is not None
    assert configuration.resampling_fn_probabilities.func.__name__ == "resample_torch_fornnunet"
    with torch.device("meta"):
        network = trainer_class("nnUNetTrainerUNETR_Tiny").build_network_architecture(
            manager, configuration, 1, 14, False
        )
    assert network.stem.token_size == (8, 16, 16)
    assert network.patch_size == tuple(plans["configurations"]["3d_fullres"]["patch_size"])


def test_the_coarsest_axis_comes_first(plan):
    plans, _ = plan(dataset={"shape": (512, 130, 512), "spacing_mm": (0.76, 3.0, 0.76)})
    assert plans["transpose_forward"] == [1, 0, 2]
    configuration = plans["configurations"]["3d_fullres"]
    assert configuration["spacing"] == [3.0, 0.76, 0.76]
    assert configuration["architecture"]["arch_kwargs"]["token_size"] == [4, 16, 16]


def test_patches_are_measured_by_nnunets_own(plan):
    _, planner = plan()
    stock = planner.choices["3d_fullres"]
    assert stock.nnunet_patch == (48, 192, 192)
    assert stock.budget.flop == pytest.approx(2 * 5.7e12, rel=0.01)
    planner = UNETRPlanner(17, 24, tflop_per_step=3)
    planner.plan_experiment()
    choice = planner.choices["3d_fullres"]
    assert (choice.budget.flop, choice.patch_limit) == (3e12, "compute")


def test_a_low_resolution_has_nnunets_own_spacing(plan):
    """So that its preprocessed data can be shared."""
    plans, planner = plan(gib=8)
    assert set(plans["configurations"]) == {"2d", "3d_fullres", "3d_lowres", "3d_cascade_fullres"}
    coarse = plans["configurations"]["3d_lowres"]
    assert np.prod(coarse["patch_size"]) >= 0.25 * np.prod(coarse["median_image_size_in_voxels"])
    assert "quarter" in planner.spacing_source("3d_lowres")
    assert set(planner.choices) == {"2d", "3d_fullres", "3d_lowres"}

    theirs = stock_configurations()["3d_lowres"]
    assert coarse["spacing"] == list(theirs["spacing"])
    assert planner.choices["3d_lowres"].nnunet_patch == tuple(theirs["patch_size"])


def test_memory_that_is_too_small_for_nnunets_patch_makes_the_low_resolution_coarser(plan):
    _, planner = plan(gib=3)
    choice = planner.choices["3d_lowres"]
    assert choice.patch_limit == "memory"
    assert np.prod(choice.step.patch_size) < np.prod(choice.nnunet_patch)
    assert choice.step.spacing_mm[1] > 1.55, "nnU-Net's is 1.545 mm"


def test_a_patch_that_holds_a_quarter_needs_no_low_resolution(plan):
    plans, _ = plan(dataset={"shape": (60, 250, 250)})
    assert set(plans["configurations"]) == {"2d", "3d_fullres"}


def test_given_patch_and_batch_are_for_3d_fullres(plan):
    plans, planner = plan(patch_size=(96, 96, 16), batch_size=3)
    assert planner.main_configuration == "3d_fullres"
    configuration = plans["configurations"]["3d_fullres"]
    assert (configuration["patch_size"], configuration["batch_size"]) == ([96, 96, 16], 3)
    assert plans["configurations"]["2d"]["patch_size"] == [512, 512]


def test_a_given_token_is_for_the_same_configuration(plan):
    plans, _ = plan(patch_size=(96, 96, 96), token_size=(16, 16, 16))
    assert plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]["token_size"] == [16, 16, 16]
    assert plans["configurations"]["2d"]["architecture"]["arch_kwargs"]["token_size"] == [16, 16]
    planner = UNETRPlanner(17, token_size=(8, 8))
    plans = planner.plan_experiment()
    assert planner.main_configuration == "2d"
    assert plans["configurations"]["2d"]["architecture"]["arch_kwargs"]["token_size"] == [8, 8]


def test_a_given_patch_of_two_axes_is_for_2d(plan):
    plans, planner = plan(patch_size=(256, 256))
    assert planner.main_configuration == "2d"
    assert plans["configurations"]["2d"]["patch_size"] == [256, 256]
    assert plans["configurations"]["3d_fullres"]["batch_size"] == 2


def test_two_dimensional_images(plan):
    dataset = {"shape": (1, 512, 512), "spacing_mm": (999.0, 0.5, 0.5)}
    plans, planner = plan(dataset=dataset, batch_size=4)
    assert set(plans["configurations"]) == {"2d"}
    assert planner.main_configuration == "2d"
    assert plans["configurations"]["2d"]["batch_size"] == 4
    for option in ("patch", "token"):
        with pytest.raises(
            ValueError, match=f"--{option}-size: the images of Dataset017_Abdomen are 2-D; give two num"
        ):
            UNETRPlanner(17, **{f"{option}_size": (16, 16, 16)})


def test_a_spacing_wider_than_the_image_is_refused(plan):
    with pytest.raises(ValueError, match=r"--spacing: the median image has no voxel at 1000\.00 x 1\.00 x 1\.00 mm"):
        plan(overwrite_target_spacing=(1000, 1, 1))


def test_regions_and_ignored_voxels_reach_the_prediction(plan):
    labels = {"background": 0, "organ": [1, 2], "tumour": 2, "ignore": 3}
    _, planner = plan(dataset={"labels": labels, "regions_class_order": [1, 2]})
    step = planner.choices["3d_fullres"].step
    assert (step.out_channels, step.regions, step.ignore_label) == (2, True, True)


def test_a_data_set_without_ct_is_planned(plan):
    plans, planner = plan(dataset={"channel_names": {"0": "T1", "1": "T2"}})
    assert not planner.has_ct
    assert plans["configurations"]["3d_fullres"]["normalization_schemes"] == ["ZScoreNormalization"] * 2
    assert planner.choices["3d_fullres"].step.in_channels == 2


def test_nothing_is_written_when_the_memory_cannot_hold_the_patch(make_dataset, instant_memory):
    _, preprocessed = make_dataset()
    before = sorted(preprocessed.iterdir())
    with pytest.raises(ValueError, match="more than the 2 GiB of --gpu-memory"):
        UNETRPlanner(17, 2, patch_size=(128, 128, 128)).plan_experiment()
    assert sorted(preprocessed.iterdir()) == before


def test_bad_files_are_found_before_anything_is_planned(make_dataset, instant_memory):
    raw, preprocessed = make_dataset()
    (preprocessed / "nnUNetPlans.json").write_text('{"plans_per_stage": {}}')
    with pytest.raises(ValueError, match=r"nnUNetPlans\.json is not a plans file of nnU-Net v2: repeat"):
        UNETRPlanner(17)
    (preprocessed / "nnUNetPlans.json").unlink()
    for path in (raw / "imagesTr").iterdir():
        path.unlink()
    with pytest.raises(ValueError, match="imagesTr holds no training images"):
        UNETRPlanner(17)
    assert not instant_memory


def test_data_preprocessed_for_nnunets_own_plans_is_shared(blobs, instant_memory):
    planner = UNETRPlanner(917, size="Tiny")
    plans = planner.plan_experiment()
    assert planner.shared_data == ["2d", "3d_fullres"]
    assert plans["configurations"]["3d_fullres"]["data_identifier"] == "nnUNetPlans_3d_fullres"
    assert planner.is_preprocessed("3d_fullres")
    assert not planner.is_preprocessed("2d"), "planned alike, but not preprocessed"
    other = UNETRPlanner(917, size="Tiny", overwrite_target_spacing=(2, 1, 1.5))
    plans = other.plan_experiment()
    assert plans["configurations"]["3d_fullres"]["data_identifier"] == "UNETRPlans_Modified_Tiny_3d_fullres"
    assert not other.is_preprocessed("3d_fullres")
    stock = json.loads((blobs / "nnUNet_preprocessed" / DATASET / "nnUNetPlans.json").read_text())
    assert plans.keys() == stock.keys()
    for name, configuration in plans["configurations"].items():
        assert configuration.keys() == stock["configurations"][name].keys(), name


def scores(shape):
    """Return the scores (4, *shape) of three overlapping organs and background, as smooth as a network's."""
    random = np.random.default_rng(0)
    noise = gaussian_filter(random.normal(size=(4, *shape)), (0, 1, 3, 3))
    return torch.from_numpy((noise / noise.std()).astype(np.float32))


@pytest.mark.parametrize(
    ("from_mm", "from_shape", "to_mm", "to_shape"),
    [
        ((3.0, 0.76, 0.76), (20, 60, 60), (5.0, 0.9, 0.9), (12, 51, 51)),
        ((3.0, 0.76, 0.76), (20, 60, 60), (3.0, 0.6, 0.6), (20, 76, 76)),
        ((1.5, 1.5, 1.5), (30, 40, 40), (1.0, 1.0, 1.0), (45, 60, 60)),
        ((1.5, 1.5, 1.5), (30, 40, 40), (5.0, 0.8, 0.8), (9, 75, 75)),
    ],
)
def test_torchs_resampling_gives_the_default_ones_label_map(plan, from_mm, from_shape, to_mm, to_shape):
    _, planner = plan()
    data = scores(from_shape)
    _, default_kwargs = ExperimentPlanner.determine_segmentation_softmax_export_fn(planner)
    expected = resample_data_or_seg_to_shape(data, to_shape, from_mm, to_mm, **default_kwargs).argmax(0)
    function, kwargs = planner.determine_segmentation_softmax_export_fn()
    labels = function(data, to_shape, from_mm, to_mm, **kwargs).argmax(0).numpy()
    assert len(np.unique(expected)) == 4
    assert np.mean(labels != expected) < 1e-3


@pytest.mark.slow
def test_stock_commands_preprocess_train_and_predict_with_the_plans(blobs):
    """Other than nnU-Net's own spacing, so that preprocessing is needed."""
    words = ("--size", "tiny", "--spacing", "2", "1.25", "1.25", "--gpu-memory", "1.5", "--verify")
    printed = nnunet_command("unetr_nnunet", "plan", "-d", "917", *words)
    assert "verified 3d_fullres on this CPU" in printed
    name, trainer_name = "UNETRPlans_Modified_Tiny", "nnUNetTrainerUNETR_Modified_Tiny"
    assert f"nnUNetv2_preprocess -d 917 -plans_name {name} -c 3d_fullres" in printed
    assert f"nnUNetv2_train 917 3d_fullres 0 -p {name} -tr {trainer_name}" in printed
    nnunet_command("nnUNetv2_preprocess", "-d", "917", "-plans_name", name, "-c", "3d_fullres", "-np", "1")
    preprocessed = blobs / "nnUNet_preprocessed" / DATASET
    plans = json.loads((preprocessed / f"{name}.json").read_text()) | {"continue_training": False}
    dataset = json.loads((preprocessed / "dataset.json").read_text())
    trainer = trainer_class(trainer_name)(plans, "3d_fullres", 0, dataset, torch.device("cpu"))
    trainer.logger.plot_progress_png = lambda folder: None
    trainer.num_epochs, trainer.num_iterations_per_epoch, trainer.num_val_iterations_per_epoch = 1, 2, 1
    trainer.run_training()
    assert list(trainer.network.patch_size) == plans["configurations"]["3d_fullres"]["patch_size"]
    folder = Path(trainer.output_folder)
    assert folder.parent.name == f"{trainer_name}__{name}__3d_fullres"
    images = blobs / "nnUNet_raw" / DATASET / "imagesTs"
    words = ("-i", str(images), "-o", str(blobs / "out"), "-f", "0", "-device", "cpu", "-npp", "0", "-nps", "0")
    nnunet_command("nnUNetv2_predict", "-d", "917", "-c", "3d_fullres", "-p", name, "-tr", trainer_name, *words)
    assert [path.name for path in (blobs / "out").glob("*.nii.gz")] == ["case_5.nii.gz"]


def test_another_packages_network_is_planned_by_what_its_patch_is_a_multiple_of(otherlab, plan):
    plans, planner = plan(architecture="pyramid", size="Slim")
    assert plans["plans_name"] == "UNETRPlans_Pyramid_Slim"
    for configuration in (plans["configurations"]["3d_fullres"], plans["configurations"]["2d"]):
        assert configuration["architecture"]["arch_kwargs"] == {
            "architecture": "Pyramid",
            "package": "otherlab",
            "version": "1.2",
        }
        assert all(axis % 2 == 0 for axis in configuration["patch_size"])
    assert planner.choices["2d"].step.size == "Slim"


def test_configurations_that_a_network_cannot_have_are_left_out_and_said(otherlab, plan):
    plans, planner = plan(architecture="Line")
    assert set(plans["configurations"]) == {"3d_lowres", "3d_fullres", "3d_cascade_fullres"}
    assert planner.left_out == {"2d": "Line (otherlab 1.2) takes no 2-D patches"}


def test_what_cannot_be_traced_is_planned_for_one_configuration(otherlab, make_dataset, monkeypatch):
    make_dataset()
    with pytest.raises(ValueError, match=r"the memory of Opaque .* cannot be predicted"):
        UNETRPlanner(17, 24, architecture="Opaque").plan_experiment()
    planner = UNETRPlanner(17, 24, architecture="Opaque", patch_size=(8, 16, 16), batch_size=2)
    plans = planner.plan_experiment()
    assert list(plans["configurations"]) == ["3d_fullres"]
    assert planner.left_out["3d_lowres"] == "its memory cannot be predicted"
