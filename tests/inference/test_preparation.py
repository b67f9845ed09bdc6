import numpy as np
import pytest
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from tests.inference.small_model import DATASET, plans, write_model
from unetr_nnunet.inference.memory import Arrays
from unetr_nnunet.inference.model import load_model
from unetr_nnunet.inference.preparation import prepare

ARRAYS = Arrays(0)


def ct(shape=(20, 80, 90), seed=0):
    """Noise in the middle of air."""
    image = np.full(shape, -1000, np.int16)
    image[:, 20:60, 15:70] = np.random.default_rng(seed).normal(50, 100, (shape[0], 40, 55))
    return image


def stock(image, spacing, plan):
    manager = PlansManager(plan)
    preprocessor = DefaultPreprocessor(verbose=False)
    configuration = manager.get_configuration("3d_fullres")
    properties = {"spacing": list(spacing)}
    data, _, properties = preprocessor.run_case_npy(image, None, properties, manager, configuration, DATASET)
    return data, properties


@pytest.mark.parametrize(
    "plan",
    [
        plans(),
        plans(transpose_forward=[2, 0, 1], transpose_backward=[1, 2, 0]),
        plans(normalization_schemes=["ZScoreNormalization"], use_mask_for_norm=[True]),
        plans(resampling_fn_data="resample_torch_fornnunet", resampling_fn_data_kwargs={"is_seg": False}),
        plans(resampling_fn_data_kwargs={"is_seg": False, "order": 3, "order_z": 1, "force_separate_z": None}),
    ],
    ids=["default", "transposed", "masked", "torch", "by nnU-Net alone"],
)
def test_whole_image_as_nnunet(plan, tmp_path):
    model = load_model(write_model(tmp_path, plan), None)
    image = ct()
    image[:3] = 0
    image[:, :, -7:] = 0
    expected, properties = stock(image[None], (3.0, 0.9, 0.8), plan)
    prepared = prepare([image], (3.0, 0.9, 0.8), model, ARRAYS, whole=True)
    np.testing.assert_allclose(prepared.data.numpy(), expected, atol=1e-4)
    assert [[span.start, span.stop] for span in prepared.crop] == [
        list(pair) for pair in properties["bbox_used_for_cropping"]
    ]
    assert prepared.image_shape == tuple(properties["shape_before_cropping"])


def test_the_body_of_a_ct_on_the_same_grid(tmp_path):
    model = load_model(write_model(tmp_path), None)
    image = np.pad(ct(), ((0, 0), (60, 60), (60, 60)), constant_values=-1000)
    whole = prepare([image], (3.0, 0.9, 0.8), model, ARRAYS, whole=True)
    part = prepare([image], (3.0, 0.9, 0.8), model, ARRAYS)
    sizes = [stop - start for start, stop in part.part]
    assert np.prod(sizes) < whole.data[0].numel() / 2
    for axis, ((start, stop), patch) in enumerate(zip(part.part, (16, 32, 32), strict=True)):
        reached = slice(max(0, start - patch + 1), stop + patch - 1)
        of = (*[slice(None)] * (axis + 1), reached)
        others = [slice(*bounds) if index != axis else slice(None) for index, bounds in enumerate(part.part)]
        inside = (slice(None), *others)
        np.testing.assert_allclose(part.data[inside][of].numpy(), whole.data[inside][of].numpy(), atol=1e-4)


def test_chunks_give_the_same(tmp_path, monkeypatch):
    model = load_model(write_model(tmp_path, plans(spacing=(2.0, 1.5, 1.5))), None)
    image = np.cumsum(ct(), axis=0).astype(np.int16)
    at_once = prepare([image], (3.0, 0.9, 0.8), model, ARRAYS, whole=True).data
    monkeypatch.setattr("unetr_nnunet.inference.preparation.CHUNK_VOXELS", 10_000)
    in_chunks = prepare([image], (3.0, 0.9, 0.8), model, ARRAYS, whole=True).data
    assert np.mean(np.abs((at_once - in_chunks).numpy()) > 1e-3) < 1e-3


def test_splines_are_clipped_to_the_whole_images_values(tmp_path):
    """A bright rod outside the box raises the limit inside it, as it does where nnU-Net resamples the whole image."""
    model = load_model(write_model(tmp_path, plans(spacing=(3.0, 1.5, 1.5))), None)
    image = np.full((20, 200, 90), -1000, np.int16)
    image[:, 20:40, 15:70] = np.where(np.arange(55) // 2 % 2, 240, -150)
    image[:, 195:, :] = -890
    image[:, 199, 5] = 3000
    whole = prepare([image], (3.0, 0.9, 0.8), model, ARRAYS, whole=True).data
    image_box = prepare([image], (3.0, 0.9, 0.8), model, ARRAYS)
    np.testing.assert_allclose(image_box.data[:, :, :30].numpy(), whole[:, :, :30].numpy(), atol=1e-4)


def test_an_image_of_zeros(tmp_path):
    model = load_model(write_model(tmp_path), None)
    prepared = prepare([np.zeros((20, 40, 40), np.int16)], (3.0, 1.5, 1.5), model, ARRAYS)
    assert prepared.crop == (slice(0, 20), slice(0, 40), slice(0, 40))
