import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nnunetv2.postprocessing.remove_connected_components import (
    apply_postprocessing,
    remove_all_but_largest_component_from_segmentation,
)
from scipy import ndimage

from unetr_nnunet.inference.model_set import LARGEST_COMPONENT, ModelSet, read_model_set

MODEL = "nnUNetTrainer__nnUNetPlans__3d_fullres"


def label_map(seed: int = 0) -> Any:
    random = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(random.normal(size=(12, 20, 24)), 1.5)
    return np.digitize(smooth, np.quantile(smooth, (0.6, 0.75, 0.9))).astype(np.uint8)


def largest(mask: Any) -> Any:
    """The largest component by scipy, voxels touching by a corner too; as nnU-Net has it."""
    components, _ = ndimage.label(mask, np.ones((3, 3, 3)))
    sizes = np.bincount(components.ravel())
    sizes[0] = 0
    return components == sizes.argmax()


def write(folder: Path, **changes: Any) -> Path:
    content = {"models": [MODEL], "folds": [0], "postprocessing": [], **changes}
    (folder / MODEL).mkdir()
    (folder / MODEL / "plans.json").write_text("{}")
    (folder / "best_model.json").write_text(json.dumps(content))
    return folder


def rule(labels: Any) -> list[Any]:
    return [LARGEST_COMPONENT, {"labels_or_regions": labels}]


def test_one_label_as_scipy_has_it() -> None:
    labels = label_map()
    expected = np.where((labels == 3) & ~largest(labels == 3), 0, labels)
    assert (expected != labels).any()
    np.testing.assert_array_equal(ModelSet((), None, (3,)).postprocess(labels), expected)


def test_a_group_of_labels_as_scipy_has_it() -> None:
    labels = label_map(1)
    foreground = labels > 1
    expected = np.where(foreground & ~largest(foreground), 0, labels)
    assert (expected != labels).any()
    found = ModelSet((), None, ((2, 3),)).postprocess(labels)
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == labels.dtype


def test_rules_in_order_as_nnunet_applies_its_own_file() -> None:
    labels = label_map(2)
    words = [{"labels_or_regions": [1, 2, 3]}, {"labels_or_regions": 2}, {"labels_or_regions": 3}]
    expected = apply_postprocessing(labels, [remove_all_but_largest_component_from_segmentation] * 3, words)
    found = ModelSet((), None, ((1, 2, 3), 2, 3)).postprocess(labels)
    np.testing.assert_array_equal(found, expected)
    assert (found != labels).any()


def test_no_rules_change_nothing() -> None:
    labels = label_map()
    np.testing.assert_array_equal(ModelSet(()).postprocess(labels.copy()), labels)


def test_the_function_has_nnunets_name() -> None:
    assert remove_all_but_largest_component_from_segmentation.__name__ == LARGEST_COMPONENT


def test_a_folder_without_the_file_is_a_model_folder(tmp_path: Path) -> None:
    assert read_model_set(tmp_path) is None


def test_a_set_is_read(tmp_path: Path) -> None:
    folder = write(tmp_path, folds=[0, 4], postprocessing=[rule([1, 2]), rule(2)])
    assert read_model_set(folder) == ModelSet((folder / MODEL,), ("0", "4"), ((1, 2), 2))


def test_models_are_looked_for_in_the_folder_alone(tmp_path: Path) -> None:
    found = read_model_set(write(tmp_path, models=[f"/etc/{MODEL}", f"../../{MODEL}"]))
    assert found is not None
    assert found.models == (tmp_path / MODEL, tmp_path / MODEL)


def test_a_model_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"best_model\.json names gone, which is not beside it: copy the whole folder"):
        read_model_set(write(tmp_path, models=[MODEL, "gone"]))


@pytest.mark.parametrize(
    "changes",
    [
        {"models": None},
        {"folds": 3},
        {"postprocessing": [["os.system", {"labels_or_regions": 1}]]},
        {"postprocessing": [[LARGEST_COMPONENT, {"background_label": 7, "labels_or_regions": 1}]]},
        {"postprocessing": [[LARGEST_COMPONENT]]},
        {"postprocessing": [rule("spleen")]},
        {"postprocessing": [rule(None)]},
    ],
)
def test_damaged_files_and_unknown_functions_are_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"best_model\.json is damaged \(.*make it again") as caught:
        read_model_set(write(tmp_path, **changes))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", '{"models": [', "[]", "{}", "\0"])
def test_files_that_are_cut_off(tmp_path: Path, text: str) -> None:
    (write(tmp_path) / "best_model.json").write_text(text)
    with pytest.raises(ValueError, match="is damaged"):
        read_model_set(tmp_path)
