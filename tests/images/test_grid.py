import numpy as np
import SimpleITK as sitk

from unetr_nnunet.images.grid import grid_differences


def volume() -> sitk.Image:
    image = sitk.GetImageFromArray(np.zeros((2, 3, 4), np.uint8))
    image.SetSpacing((0.7, 0.8, 3.0))
    image.SetOrigin((-180.25, -170.5, 1012.125))
    return image


def test_grids_agree_within_the_tolerances_only() -> None:
    image = volume()
    image.SetOrigin((-180.2501, -170.5, 1012.1249))
    image.SetSpacing((0.70001, 0.8, 3.0))
    assert grid_differences(image, volume()) == []
    image.SetOrigin((-180.25, -170.5, 1012.2))
    assert grid_differences(image, volume()) == [
        "origin (-180.25, -170.5, 1012.2) against (-180.25, -170.5, 1012.12) mm"
    ]
    image.SetSpacing((0.71, 0.8, 3.0))
    image.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))
    assert [words.split()[0] for words in grid_differences(image, volume())] == ["spacing", "origin", "direction"]
    assert "size (4, 3, 1) against (4, 3, 2)" in grid_differences(image[:, :, :1], volume())[0]
