import hashlib
import json

from unetr_nnunet.inference.run_record import RunRecord


def test_a_run_is_in_the_file_after_each_case(tmp_path):
    weights, mask = tmp_path / "weights.pth", tmp_path / "a.nii.gz"
    weights.write_bytes(b"1")
    mask.touch()
    record = RunRecord(tmp_path / "run.json", {"model": [weights]}, {"fidelity": "fast"})
    record.add("a", 1.234, [mask, tmp_path / "a.png"], ["OpenVINO", "PyTorch"])
    (run,) = json.loads((tmp_path / "run.json").read_text())["runs"]
    assert run["models"] == [
        {"given": "model", "sha256": {str(weights): hashlib.sha256(b"1").hexdigest()}},
    ]
    assert run["settings"] == {"fidelity": "fast"}
    assert run["cases"][0]["case"] == "a"
    assert run["cases"][0]["seconds"] == 1.23
    assert run["cases"][0]["files"] == ["a.nii.gz"]
    assert run["cases"][0]["engines"] == ["OpenVINO", "PyTorch"]
    assert "finished" not in run
    record.finish([("b", "b.nii.gz", "no image")])
    (run,) = json.loads((tmp_path / "run.json").read_text())["runs"]
    assert run["failed"] == [{"case": "b", "reason": "no image"}]
    assert run["finished"] >= run["started"]


def test_a_resumed_run_keeps_what_others_noted_even_beside_a_damaged_file(tmp_path):
    for resume, count in ((False, 1), (True, 2), (False, 1)):
        RunRecord(tmp_path / "run.json", {}, {}, resume).finish([])
        assert len(json.loads((tmp_path / "run.json").read_text())["runs"]) == count
    (tmp_path / "run.json").write_text("{")
    RunRecord(tmp_path / "run.json", {}, {}, resume=True).finish([])
    assert len(json.loads((tmp_path / "run.json").read_text())["runs"]) == 1
