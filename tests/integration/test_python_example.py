"""The example of docs/how-to/predict.md runs as it stands, but for the GPU."""

import re
from pathlib import Path
from textwrap import dedent

import numpy as np
import SimpleITK as sitk

from tests.inference.small_model import write_model
from tests.inference.test_predictor import ct

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "predict.md"


def test_the_example_runs(tmp_path, monkeypatch):
    section = PAGE.read_text(encoding="utf-8").split("## From Python")[1]
    code = dedent(re.search(r"((?:^    .*\n|^\n)+)", section, re.MULTILINE)[1])
    write_model(tmp_path / "model_folder")
    image = ct("RAS")
    (tmp_path / "cts").mkdir()
    for path in ("ct.nii.gz", "cts/case.nii.gz"):
        sitk.WriteImage(image, str(tmp_path / path))
    monkeypatch.chdir(tmp_path)
    names = {"ct_array": sitk.GetArrayFromImage(image)}
    exec(code.replace('"cuda"', '"cpu"'), names)
    assert names["mask"].GetSize() == image.GetSize()
    assert np.unique(sitk.GetArrayFromImage(names["mask"])).size > 1
    assert (names["summary"].written, names["summary"].failed) == (1, ())
    assert (tmp_path / "masks" / "case.nii.gz").is_file()
    assert names["array"].shape == names["ct_array"].shape
