"""Against stock nnU-Net in the same process, on models whose label maps are noise."""

import weakref
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from scipy import ndimage

from tests.inference.small_model import DATASET, REGIONS, RESIDUAL, plans, write_model
from unetr_nnunet.inference.memory import Arrays
from unetr_nnunet.inference.model import load_model
from unetr_nnunet.inference.placement import Placement
from unetr_nnunet.inference.predictor import Predictor
from unetr_nnunet.inference.sliding_window import SlidingWindow
from unetr_nnunet.nnunet_hook.environment import EXTERNAL_TRAINERS, trainer_folder

SPACING = (0.9, 0.8, 3.0)


def ct(code="RAS", shape=(26, 70, 64), spacing=SPACING, seed=0):
    """Return a CT of blurred noise within air, stored in an orientation."""
    noise = np.random.default_rng(seed).normal(0, 1, shape)
    image = np.full(shape, -1000, np.int16)
    inside = ndimage.gaussian_filter(noise, 1.5) * 1200 + 40
    image[:, 8:60, 6:56] = inside[:, 8:60, 6:56]
    stored = sitk.GetImageFromArray(image)
    stored.SetSpacing(spacing)
    stored.SetOrigin((-30, 20, 100))
    return sitk.DICOMOrient(stored, code)


def stock(folder, paths, folds=(0,)):
    """Return nnU-Net's label map of a file, or of one a channel, in the file's own axes, and its probabilities."""
    paths = [paths] if isinstance(paths, Path) else paths
    predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(folder), folds)
    reader = predictor.plans_manager.image_reader_writer_class()
    image, properties = reader.read_images([str(path) for path in paths])
    mask, probabilities = predictor.predict_single_npy_array(image, properties, save_or_return_probabilities=True)
    written = paths[0].parent.with_name("stock.nii.gz")
    reader.write_seg(np.asarray(mask), str(written), properties)
    return sitk.ReadImage(str(written)), probabilities


def agreement(ours, theirs, probabilities, code="RAS"):
    """Return on how many of the voxels that are no near-tie two label maps agree; noise has one tie in a thousand."""
    ours, theirs = (sitk.GetArrayFromImage(sitk.DICOMOrient(mask, code)) for mask in (ours, theirs))
    assert len(np.unique(theirs)) > 2, "a constant map agrees with anything"
    ranked = np.sort(probabilities, axis=0)
    clear = (ranked[-1] - ranked[-2] > 1e-3) & (np.abs(probabilities - 0.5).min(0) > 1e-3)  # of labels, of regions
    assert clear.mean() > 0.9
    return float(np.mean(ours[clear] == theirs[clear]))


@pytest.mark.parametrize(
    ("plan", "dataset", "code"),
    [
        (plans(), DATASET, "RAS"),
        (plans(network_class=RESIDUAL), DATASET, "LPS"),
        (plans(), DATASET | REGIONS, "PIR"),
        (plans(spacing=(1.5, 1.5, 1.5)), DATASET, "LAS"),
        (plans(transpose_forward=[2, 0, 1], transpose_backward=[1, 2, 0], spacing=(1.5, 3.0, 1.5)), DATASET, "RAS"),
        (plans(patch=(32, 32), spacing=(1.5, 1.5)), DATASET, "LPS"),
    ],
    ids=["plain", "residual", "regions", "isotropic", "transposed", "slices"],
)
def test_exact_is_nnunets_label_map(plan, dataset, code, tmp_path):
    flat = len(plan["configurations"]["3d_fullres"]["patch_size"]) == 2
    folder = write_model(tmp_path / "model", plan, dataset, mirror_axes=(0, 1) if flat else (0, 1, 2))
    image = ct(code)
    sitk.WriteImage(image, str(tmp_path / "ct.nii.gz"))
    stock_result = stock(folder, tmp_path / "ct.nii.gz")
    mask = Predictor([load_model(folder, None)], fidelity="exact").predict([image])
    assert agreement(mask, *stock_result) > 0.9999
    assert mask.GetDirection() == image.GetDirection()
    assert mask.GetOrigin() == image.GetOrigin()


@pytest.mark.slow
@pytest.mark.parametrize("trainer", ["nnUNetTrainerUNETR_Tiny", "nnUNetTrainerUNETR_Modified_Tiny"])
def test_our_networks_too(trainer, tmp_path, monkeypatch):
    monkeypatch.setenv(EXTERNAL_TRAINERS, str(trainer_folder()))
    folder = write_model(tmp_path / "model", trainer=trainer)
    image = ct("RAS")
    sitk.WriteImage(image, str(tmp_path / "ct.nii.gz"))
    stock_result = stock(folder, tmp_path / "ct.nii.gz")
    assert agreement(Predictor([load_model(folder, None)], fidelity="exact").predict([image]), *stock_result) > 0.9999


def test_folds_are_averaged_as_nnunet_does(tmp_path):
    folder = write_model(tmp_path / "model", folds=3)
    image = ct("LPS")
    sitk.WriteImage(image, str(tmp_path / "ct.nii.gz"))
    stock_result = stock(folder, tmp_path / "ct.nii.gz", folds=(0, 2))
    assert agreement(Predictor([load_model(folder, [0, 2])], fidelity="exact").predict([image]), *stock_result) > 0.9999
    assert agreement(Predictor([load_model(folder, [0])], fidelity="exact").predict([image]), *stock_result) < 0.99


def test_probabilities_are_nnunets(tmp_path):
    folder = write_model(tmp_path / "model")
    image = ct("RAS")
    sitk.WriteImage(image, str(tmp_path / "ct.nii.gz"))
    _, theirs = stock(folder, tmp_path / "ct.nii.gz")
    found = (
        Predictor([load_model(folder, None)], fidelity="exact").segment([image], probabilities_in="RAS").probabilities
    )
    assert found.dtype == np.float16
    np.testing.assert_allclose(found, theirs, atol=1e-3)


def test_several_models_are_averaged_whatever_their_orientation(tmp_path):
    first = load_model(write_model(tmp_path / "a"), None)
    second = load_model(write_model(tmp_path / "b", plans(reader="SimpleITKIO"), seed=7), None)
    assert (first.orientation, second.orientation) == ("RAS", "LPS")
    image = ct("SPL")
    each = []
    for model in (first, second):
        alone = Predictor([model], fidelity="exact").segment([image], probabilities_in="RAS")
        each.append(alone.probabilities.astype(float))
    mask = Predictor([first, second], fidelity="exact").predict([image])
    in_ras = sitk.GetArrayFromImage(sitk.DICOMOrient(mask, "RAS"))
    mean = np.mean(each, axis=0)
    clear = np.diff(np.sort(mean, axis=0)[-2:], axis=0)[0] > 2e-3
    assert np.mean(in_ras[clear] == mean.argmax(0)[clear]) == 1
    assert np.mean(in_ras == each[0].argmax(0)) < 0.99


def test_models_of_other_labels_are_refused(tmp_path):
    first = load_model(write_model(tmp_path / "a"), None)
    other = DATASET | {"labels": {"background": 0, "liver": 1, "spleen": 2, "aorta": 3}}
    second = load_model(write_model(tmp_path / "b", dataset=other), None)
    with pytest.raises(ValueError, match=r"b and .*a differ in labels"):
        Predictor([first, second])


def test_region_models_with_regions_in_another_order_are_refused(tmp_path):
    first = load_model(write_model(tmp_path / "a", dataset=DATASET | REGIONS), None)
    labels = {"background": 0, "core": 2, "whole": [1, 2]}
    second = load_model(write_model(tmp_path / "b", dataset=DATASET | REGIONS | {"labels": labels}), None)
    with pytest.raises(ValueError, match=r"b and .*a differ in labels"):
        Predictor([first, second])
    third = load_model(write_model(tmp_path / "c", dataset=DATASET | REGIONS | {"regions_class_order": [2, 1]}), None)
    with pytest.raises(ValueError, match=r"c and .*a differ in regions_class_order"):
        Predictor([first, third])


@pytest.mark.parametrize(
    ("images", "fact"),
    [
        (lambda image: [image, image], r"2 image\(s\) for a model of 1 channel\(s\): CT"),
        (lambda image: [image[:, :, 0]], "a channel is a 2-D image"),
        (lambda image: [sitk.GetArrayFromImage(image)], "a channel is a ndarray: give a 3-D SimpleITK image"),
    ],
)
def test_images_that_are_none(images, fact, tmp_path):
    predictor = Predictor([load_model(write_model(tmp_path), None)])
    with pytest.raises(ValueError, match=fact):
        predictor.predict(images(ct()))
    with pytest.raises(ValueError, match="no model to predict with"):
        Predictor([])


@pytest.mark.parametrize("scale", [0.001, 1000])
def test_values_that_are_no_hounsfield_units_are_noted(scale, tmp_path):
    predictor = Predictor([load_model(write_model(tmp_path), None)])
    image = sitk.Cast(ct() + (1024 if scale > 1 else 0), sitk.sitkFloat32) * min(scale, 1)
    assert "do not look like Hounsfield units" in predictor.segment([image]).notes[0]
    assert predictor.segment([ct()]).notes == ()


def test_stored_orientation_does_not_matter(tmp_path):
    predictor = Predictor([load_model(write_model(tmp_path), None)])
    maps = [
        sitk.GetArrayFromImage(sitk.DICOMOrient(predictor.predict([ct(code)]), "LPS")) for code in ("LPS", "RAS", "AIL")
    ]
    np.testing.assert_array_equal(maps[0], maps[1])
    np.testing.assert_array_equal(maps[0], maps[2])


def test_arrays_in_and_out(tmp_path):
    predictor = Predictor([load_model(write_model(tmp_path), None)])
    image = ct("RAS")
    array = sitk.GetArrayFromImage(image)
    expected = sitk.GetArrayFromImage(predictor.predict([image]))
    np.testing.assert_array_equal(predictor.predict_array(array, SPACING[::-1]), expected)
    np.testing.assert_array_equal(predictor.predict_array(array[None], SPACING[::-1]), expected)


@pytest.mark.parametrize("bad", [np.nan, 1e300])
def test_what_is_not_finite_is_refused(tmp_path, bad):
    model = load_model(write_model(tmp_path), None)
    array = sitk.GetArrayFromImage(ct("RAS")).astype(np.float64)
    array[3, 20, 20] = bad
    for predictor in (Predictor([model]), Predictor([model, model])):
        with pytest.raises(ValueError, match="channel 0 holds 1 voxels that are NaN or infinite"):
            predictor.predict_array(array, SPACING[::-1])


def test_memory_in_files_gives_the_same(tmp_path, monkeypatch, caplog):
    model = load_model(write_model(tmp_path / "model"), None)
    expected = sitk.GetArrayFromImage(Predictor([model]).predict([ct()]))
    monkeypatch.setattr("unetr_nnunet.inference.memory.free_bytes", lambda: 1)
    predictor = Predictor([model], scratch=tmp_path)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(predictor.predict([ct()])), expected)
    assert len(caplog.messages) == 1
    assert "more memory than is free" in caplog.messages[0]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_probabilities_in_files_are_the_same(tmp_path, monkeypatch):
    models = [load_model(write_model(tmp_path / name, seed=seed), None) for name, seed in (("a", 0), ("b", 7))]
    image = ct("LPS")
    expected = Predictor(models).segment([image], probabilities_in="LPS").probabilities
    made, real = [], Arrays.zeros

    def zeros(self, shape, kind, device):
        made.append((self.in_files, tuple(shape)))
        return real(self, shape, kind, device)

    monkeypatch.setattr("unetr_nnunet.inference.memory.free_bytes", lambda: 1)
    monkeypatch.setattr(Arrays, "zeros", zeros)
    found = Predictor(models, scratch=tmp_path).segment([image], probabilities_in="LPS").probabilities
    np.testing.assert_array_equal(found, expected)
    assert made.count((True, expected.shape)) == 2
    assert all(in_files for in_files, _ in made)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_reader_of_the_file_is_not_needed(tmp_path):
    """The same label map as from nnU-Net's other reader, where the file has the model's orientation."""
    folder = write_model(tmp_path / "model", plans(reader="SimpleITKIO"))
    image = ct("LPS")
    sitk.WriteImage(image, str(tmp_path / "ct.nii.gz"))
    stock_result = stock(folder, tmp_path / "ct.nii.gz")
    mask = Predictor([load_model(folder, None)], fidelity="exact").predict([image])
    assert agreement(mask, *stock_result, code="LPS") > 0.9999


def test_progress_reaches_its_end(tmp_path):
    reports = []
    Predictor([load_model(write_model(tmp_path, folds=2), None)]).predict(
        [ct()], lambda *report: reports.append(report)
    )
    done = [report[0] for report in reports]
    assert done == sorted(done)
    assert reports[-1][0] == reports[-1][1] > 2


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        getattr(torch, "AcceleratorError", RuntimeError)("CUDA error: out of memory"),
    ],
    ids=["torch", "cudnn", "cublas", "cuda"],
)
def test_out_of_gpu_memory_falls_back_in_steps(tmp_path, monkeypatch, error, caplog):
    tried = []

    class NoRoomOnTheGPU(SlidingWindow):
        def __init__(self, data, part, model, placement, *arguments):
            tried.append((placement.device.type, placement.results.type, placement.batch_voxels))
            if placement.device.type == "cuda":
                raise error
            super().__init__(data, part, model, placement, *arguments)

    model = load_model(write_model(tmp_path), None)
    expected = sitk.GetArrayFromImage(Predictor([model]).predict([ct()]))
    monkeypatch.setattr("unetr_nnunet.inference.predictor.SlidingWindow", NoRoomOnTheGPU)
    mask = Predictor([model], "cuda").predict([ct()])
    np.testing.assert_array_equal(sitk.GetArrayFromImage(mask), expected)
    assert [(device, results) for device, results, _ in tried] == [
        ("cuda", "cuda"), ("cuda", "cpu"), ("cuda", "cpu"), ("cpu", "cpu")
    ]  # fmt: skip
    assert [size > 1 for _, _, size in tried][:3] == [True, True, False]
    assert len(caplog.messages) == 3
    assert all("out of memory" in message for message in caplog.messages)


class _LikeAGPU(Placement):
    """A placement on the CPU that has a smaller one, of a window at a time."""

    def smaller(self):
        return Placement(self.device, self.results, 1), "running one window at a time"


def test_a_network_that_fails_on_larger_batches_runs_on_smaller_ones(tmp_path, monkeypatch, caplog):
    model = load_model(write_model(tmp_path), None)
    expected = sitk.GetArrayFromImage(Predictor([model]).predict([ct()]))
    sizes, forward = [], model.network.forward

    def run(inputs):
        sizes.append(len(inputs))
        if len(inputs) > 2:
            raise RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED")
        return forward(inputs)

    model.network.forward = run
    monkeypatch.setattr(Placement, "on", lambda device, one_by_one: _LikeAGPU(device, device))
    mask = sitk.GetArrayFromImage(Predictor([model]).predict([ct()]))
    assert np.mean(mask == expected) > 0.99, "another batch size rounds otherwise"
    assert sizes[0] > 2
    assert set(sizes[1:]) == {1}
    assert caplog.messages == [
        "cpu is out of memory (RuntimeError: cuDNN error: CUDNN_STATUS_ALLOC_FAILED): running one window at a time"
    ]


def test_other_errors_of_a_gpu_are_raised(tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr("unetr_nnunet.inference.predictor.SlidingWindow", fail)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        Predictor([load_model(write_model(tmp_path), None)], "cuda").predict([ct()])


def test_only_one_models_logits_are_in_memory(tmp_path, monkeypatch):
    models = [load_model(write_model(tmp_path / name, seed=seed), None) for name, seed in (("a", 0), ("b", 7))]
    made, alive, real = [], [], SlidingWindow.run

    def run(self, parameters):
        alive.append(sum(each() is not None for each in made))
        logits = real(self, parameters)
        made.append(weakref.ref(logits))
        return logits

    monkeypatch.setattr(SlidingWindow, "run", run)
    Predictor(models).segment([ct()], probabilities_in="RAS")
    assert alive == [0, 0]


def test_out_of_memory_on_the_cpu_is_an_error(tmp_path, monkeypatch):
    def fail(*_):
        raise torch.OutOfMemoryError("no memory")

    monkeypatch.setattr(SlidingWindow, "run", fail)
    with pytest.raises(MemoryError, match=r"it needs about 0\.0\d+ GiB of memory and [\d.]+ GiB are free"):
        Predictor([load_model(write_model(tmp_path), None)]).predict([ct()])
