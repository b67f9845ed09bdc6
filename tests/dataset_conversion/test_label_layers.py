import nibabel
import numpy as np
import SimpleITK as sitk

from unetr_nnunet.dataset_conversion.conversion import convert
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


def test_float_label_with_whole_numbers_becomes_uint8(btcv_tree, conversion):
    btcv_tree.write(btcv_tree.label_path(2), btcv_tree.label_voxels(2).astype(np.float64))
    report = convert(conversion)
    assert list(report.rewritten) == ["BTCV_0002"]
    assert "float64" in report.rewritten["BTCV_0002"][0]
    label = sitk.ReadImage(str(report.folder / "labelsTr" / "BTCV_0002.nii.gz"))
    assert label.GetPixelID() == sitk.sitkUInt8
    assert np.array_equal(sitk.GetArrayFromImage(label), btcv_tree.label_voxels(2))
    image = sitk.ReadImage(str(btcv_tree.image_path(2)))
    assert (label.GetOrigin(), label.GetSpacing(), label.GetDirection()) == (
        image.GetOrigin(),
        image.GetSpacing(),
        image.GetDirection(),
    )


def test_scaled_integer_label_is_rewritten(btcv_tree, conversion):
    halves = nibabel.Nifti1Image(np.full((18, 16, 4), 4, np.int16), nibabel.load(btcv_tree.image_path(2)).affine)
    halves.header.set_slope_inter(0.5, 1)
    nibabel.save(halves, btcv_tree.label_path(2))
    nibabel_reads = np.unique(nibabel.load(btcv_tree.label_path(2)).get_fdata())
    report = convert(conversion)
    written = nibabel.load(report.folder / "labelsTr" / "BTCV_0002.nii.gz")
    assert written.get_data_dtype() == np.uint8
    assert np.unique(written.dataobj).tolist() == nibabel_reads.tolist()


def test_small_origin_difference_takes_the_images_geometry(btcv_tree, conversion):
    btcv_tree.write(btcv_tree.label_path(2), btcv_tree.label_voxels(2), origin=(-50.0, 40.05, 10.0))
    report = convert(conversion)
    assert "0.05 mm" in report.rewritten["BTCV_0002"][0]
    label = nibabel.load(report.folder / "labelsTr" / "BTCV_0002.nii.gz")
    image = nibabel.load(btcv_tree.image_path(2))
    assert np.array_equal(label.affine, image.affine)
    assert np.array_equal(np.asarray(label.dataobj).T, btcv_tree.label_voxels(2))
