import nibabel
import numpy as np

from unetr_nnunet.dataset_conversion.image_checks import read_image
from unetr_nnunet.dataset_conversion.label_layers import (
    BTCV_VALUES,
    LabelLayer,
    absent_organs,
    organ_values,
    write_label_map,
)
from unetr_nnunet.dataset_conversion.source_files import SourceFile

AFFINE = np.array([[-0.8, 0, 0, 50], [0, 0.7, 0, -40], [0, 0, 3, 10], [0, 0, 0, 1]])


def saved(folder, name, voxels, slope=None):
    image = nibabel.Nifti1Image(voxels, AFFINE)
    if slope:
        image.header.set_slope_inter(slope, 0)
    nibabel.save(image, folder / name)
    return SourceFile(name, 1, 1, path=folder / name)


def test_names_become_organs():
    values = organ_values(("liver", "Colon", "right kidney", "arota", "gall bladder", "postcava"))
    assert values == {0: 0, 1: 6, 2: 0, 3: 2, 4: 8, 5: 4, 6: 9}
    assert absent_organs(values.values()) == (1, 3, 5, 7, 10, 11, 12, 13)


def test_only_btcvs_own_numbers_are_kept():
    file = SourceFile("x", 1, 1)
    assert LabelLayer(file, BTCV_VALUES).is_kept
    assert not LabelLayer(file, {0: 0, 1: 6}).is_kept
    assert LabelLayer(file, {0: 0, 1: 6}).highest == 1


def test_layers_are_merged_on_the_images_geometry(tmp_path):
    image = read_image(saved(tmp_path, "image.nii.gz", np.arange(24, dtype=np.int16).reshape(4, 3, 2)))
    one, other = np.zeros((2, 4, 3, 2), np.uint8)
    one[0], other[1] = 1, 1
    one[1, 0, 0] = 1  # both claim this voxel
    layers = [
        LabelLayer(saved(tmp_path, "one.nii.gz", one), {0: 0, 1: 6}),
        LabelLayer(saved(tmp_path, "other.nii.gz", other.astype(np.float32)), {0: 0, 1: 3}),
    ]
    write_label_map(layers, image, tmp_path / "out" / "label.nii.gz")
    label = nibabel.load(tmp_path / "out" / "label.nii.gz")
    expected = np.where(other, 3, np.where(one, 6, 0))
    assert np.array_equal(np.asarray(label.dataobj), expected)
    assert label.get_data_dtype() == np.uint8
    assert np.array_equal(label.affine, nibabel.load(tmp_path / "image.nii.gz").affine)


def test_scaled_values_are_mapped_after_scaling(tmp_path):
    file = saved(tmp_path, "label.nii.gz", np.array([[[0, 2, 4]]], np.uint8), slope=0.5)
    expected = {0: 0, 1: 11, 2: 12, 4: 13}
    read = nibabel.load(tmp_path / "label.nii.gz").get_fdata()
    write_label_map([LabelLayer(file, expected)], read_image(file), tmp_path / "out.nii.gz")
    written = np.asarray(nibabel.load(tmp_path / "out.nii.gz").dataobj)
    assert written.tolist() == np.vectorize(expected.get)(read).tolist()
