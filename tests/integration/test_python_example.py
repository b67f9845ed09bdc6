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
    sitk.WriteImage(image, str(tmp_path / "ct.nii.gz"))
    monkeypatch.chdir(tmp_path)
    names = {"ct_array": sitk.GetArrayFromImage(image)}
    exec(code.replace('"cuda"', '"cpu"'), names)
    assert names["mask"].GetSize() == image.GetSize()
    assert np.unique(sitk.GetArrayFromImage(names["mask"])).size > 1
    assert names["array"].shape == names["ct_array"].shape
