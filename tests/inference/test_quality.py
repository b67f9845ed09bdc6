from dataclasses import replace

import numpy as np
import pytest

from unetr_nnunet.inference.quality import WHOLE_CASE, CaseMeasures, check_case, known_order
from unetr_nnunet.nnunet.label_learning import learn
from unetr_nnunet.nnunet.label_statistics import TrainingStatistics
from unetr_nnunet.nnunet.organ_measures import Intensities, OrganMeasures, measure_organs
from unetr_nnunet.organs import ORGANS, find_organ

LABELS = {"liver": (6,), "spleen": (1,), "right_kidney": (2,), "left_kidney": (3,), "aorta": (8,)}
# first voxel and length of the sides, in an array (Z, Y, X) of which z runs to the head, y to the back, x to the left
BLOCKS = {6: ((20, 10, 5), 12), 1: ((22, 20, 36), 6), 2: ((10, 26, 10), 5), 3: ((11, 26, 32), 5), 8: ((0, 28, 23), 3)}
AIR, TISSUE = -1000.0, 60.0


def abdomen(shift: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return a label map of blocks and its CT, (40, 40, 48)."""
    labels = np.zeros((40, 40, 48), np.uint8)
    for label, ((z, y, x), side) in BLOCKS.items():
        labels[z : z + side + shift % 2, y : y + side, x : x + side] = label
    labels[0:36, 28:31, 23:26] = 8  # leaves the image at the foot
    image = np.where(labels > 0, TISSUE + shift, AIR).astype(np.float32)
    return labels, image


def measured(labels: np.ndarray, image: np.ndarray, ends: str = "SPL") -> dict[str, OrganMeasures]:
    return measure_organs(labels, LABELS, (3, 2, 2), ends, Intensities(image, 0, 1))


@pytest.fixture(scope="module")
def statistics() -> TrainingStatistics:
    return learn({f"case_{shift}": measured(*abdomen(shift)) for shift in range(12)})


def flags_of(labels: np.ndarray, image: np.ndarray, statistics: TrainingStatistics | None) -> dict[str, list[str]]:
    return check_case(CaseMeasures(measured(labels, image)), LABELS, statistics)


def test_a_case_like_the_training_cases_has_no_flags(statistics: TrainingStatistics) -> None:
    assert flags_of(*abdomen(5), statistics) == {}
    assert flags_of(*abdomen(5), None) == {}


def test_a_mirrored_image_is_named_with_and_without_training(statistics: TrainingStatistics) -> None:
    labels, image = (array[:, :, ::-1] for array in abdomen())
    for known in (statistics, None):
        (reason,) = flags_of(labels, image, known)[WHOLE_CASE]
        assert reason.startswith("the image may be mirrored left to right: ")


def test_an_image_upside_down_is_named(statistics: TrainingStatistics) -> None:
    labels, image = (array[::-1] for array in abdomen())
    (reason,) = flags_of(labels, image, statistics)[WHOLE_CASE]
    assert reason.startswith("the image may be upside down: ")
    assert "liver below right_kidney" in reason or "spleen below right_kidney" in reason


def test_front_and_back_exchanged_is_named(statistics: TrainingStatistics) -> None:
    labels, image = (array[:, ::-1] for array in abdomen())
    assert "front and back" in flags_of(labels, image, statistics)[WHOLE_CASE][0]


def test_two_organs_in_the_wrong_place_name_themselves() -> None:
    labels, image = abdomen()
    labels = np.where(
        labels == 6, 1, np.where(labels == 1, 6, labels)
    )  # liver and spleen exchanged, as the model sees it
    flags = check_case(
        CaseMeasures({name: own for name, own in measured(labels, image).items() if name in ("liver", "spleen")}),
        ("liver", "spleen"),
        None,
    )
    assert flags == {
        "spleen": ["lies right of liver; it should lie left of it"],
        "liver": ["lies left of spleen; it should lie right of it"],
    }


def test_a_cropped_image_cuts_organs_off(statistics: TrainingStatistics) -> None:
    labels, image = (array[26:] for array in abdomen())
    flags = flags_of(labels, image, statistics)
    assert "touches the border of the image" in flags["liver"]
    assert flags["left_kidney"] == ["empty, but there in 12 of 12 training cases"]
    assert "aorta" not in flags or "touches the border of the image" not in flags["aorta"]
    assert "touches the border of the image" in flags_of(labels, image, None)["liver"]


def test_a_wrong_hu_offset(statistics: TrainingStatistics) -> None:
    labels, image = abdomen()
    flags = flags_of(labels, image + 200, statistics)
    assert flags["liver"] == ["mean 260 HU, training 60 to 71 HU"]
    assert flags[WHOLE_CASE] == [
        "HU may be shifted: organs differ by +194 HU from the median in training, training -6 to +6 HU"
    ]
    assert flags_of(labels, image + 200, None) == {}


def test_volume_and_parts(statistics: TrainingStatistics) -> None:
    labels, image = abdomen()
    labels[20:32, 10:22, 5:15] = 0
    assert flags_of(labels, image, statistics)["liver"][0].startswith("volume 3.46 ml, training 20.7 to ")
    labels, image = abdomen()
    labels[22:28, 20:26, 38] = 0
    labels[22:28, 20:26, 40] = 0
    assert "3 parts, training 1" in flags_of(labels, image, statistics)["spleen"]


def test_nothing_found(statistics: TrainingStatistics) -> None:
    labels = np.zeros((40, 40, 48), np.uint8)
    assert flags_of(labels, labels.astype(np.float32), None) == {WHOLE_CASE: ["nothing was found"]}
    assert set(flags_of(labels, labels.astype(np.float32), statistics)) == {WHOLE_CASE, *LABELS}


def test_uncertain_organs() -> None:
    organs = measured(*abdomen())
    sure = CaseMeasures(organs, dict.fromkeys(LABELS, 0.9), dict.fromkeys(LABELS, 0.9))
    assert check_case(sure, LABELS, None) == {}
    unsure = replace(sure, probabilities={**sure.probabilities, "liver": 0.4})
    assert check_case(unsure, LABELS, None) == {"liver": ["mean probability 0.40"]}
    divided = replace(sure, fold_dice={**sure.fold_dice, "spleen": 0.2})
    assert check_case(divided, LABELS, None) == {"spleen": ["folds disagree: Dice 0.20"]}


def test_the_known_order_takes_the_models_names() -> None:
    pairs = {(pair.towards, pair.first, pair.second) for pair in known_order(["Liver", "kidney_left", "tumour"])}
    assert pairs == {("left", "kidney_left", "Liver"), ("back", "kidney_left", "Liver")}
    names = {name for pair in known_order([organ.name for organ in ORGANS]) for name in (pair.first, pair.second)}
    assert all(find_organ(name) for name in names)
