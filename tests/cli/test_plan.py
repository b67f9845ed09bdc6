import json
from types import SimpleNamespace

import pytest

from tests.planning.conftest import instant_memory, make_dataset
from unetr_nnunet.cli.main import main
from unetr_nnunet.trainers.names import parse_trainer_name

__all__ = ["instant_memory", "make_dataset"]


@pytest.fixture
def preprocessed(make_dataset, instant_memory):
    return make_dataset()[1]


def next_commands(printed):
    return [line.strip() for line in printed.split("next:")[1].splitlines() if line]


def test_reports_and_names_the_next_commands(preprocessed, capsys):
    assert main(["plan", "-d", "17", "--gpu-memory", "24", "--architecture", "cnnSTEM", "--size", "TINY"]) == 0
    printed = capsys.readouterr().out
    name = "UNETRPlans_CNNStem_Tiny"
    lines = printed.splitlines()
    assert lines[0] == f"wrote {preprocessed / name}.json"
    assert lines[1].startswith("3d_fullres: patch ")
    assert lines[2].startswith("2d: patch 512 x 512, token 16 x 16, batch ")
    assert "memory is predicted, for float16 on CUDA, not measured; 15% more" in printed
    assert "GFLOP" not in printed
    assert next_commands(printed) == [
        'eval "$(unetr_nnunet env)"',
        f"nnUNetv2_preprocess -d 17 -plans_name {name} -c 3d_fullres",
        f"nnUNetv2_train 17 3d_fullres 0 -p {name} -tr nnUNetTrainerUNETR_CNNStem_Tiny",
    ]


def test_the_trainer_that_is_named_exists(preprocessed, capsys):
    for architecture in ("original", "modified"):
        main(["plan", "-d", "17", "--architecture", architecture, "--gpu-memory", "24"])
        name = next_commands(capsys.readouterr().out)[-1].split()[-1]
        assert parse_trainer_name(name).architecture.lower() == architecture


def test_options_reach_the_plans(preprocessed, capsys):
    words = "--name Mine --spacing 3 1 1 --patch-size 96 96 16 --batch-size 3 --explain --gpu-memory 24"
    assert main(["plan", "-d", "17", *words.split()]) == 0
    printed = capsys.readouterr().out
    configuration = json.loads((preprocessed / "Mine.json").read_text())["configurations"]["3d_fullres"]
    assert (configuration["patch_size"], configuration["batch_size"]) == ([96, 96, 16], 3)
    assert configuration["spacing"] == [3.0, 1.0, 1.0]
    assert "3.000 x 1.000 x 1.000 mm, given by --spacing" in printed
    assert "as you asked" in printed
    assert "GFLOP a step" in printed


def test_shared_data_needs_no_preprocessing(preprocessed, capsys):
    main(["plan", "-d", "17", "--name", "Ours", "--gpu-memory", "24"])
    plans = json.loads((preprocessed / "Ours.json").read_text())
    (preprocessed / "nnUNetPlans.json").write_text(json.dumps(plans))
    (preprocessed / "Ours_3d_fullres").mkdir()
    capsys.readouterr()
    main(["plan", "-d", "17", "--gpu-memory", "24"])
    printed = capsys.readouterr().out
    assert "shares the preprocessed data of nnUNetPlans: 2d, 3d_fullres" in printed
    assert len(next_commands(printed)) == 2
    assert "nnUNetv2_preprocess" not in printed


def test_a_data_set_without_ct_is_told(make_dataset, instant_memory, capsys):
    make_dataset(channel_names={"0": "T1"})
    assert main(["plan", "-d", "17", "--gpu-memory", "24"]) == 0
    assert "note: no channel is called CT" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--patch-size", "50", "100", "100"], "no token can tile it"),
        (["--patch-size", "512", "512", "512"], "more than the 8 GiB of --gpu-memory"),
        (["--name", "a__b"], "nnU-Net splits at"),
    ],
)
def test_bad_input_gives_exit_code_1_and_one_line(preprocessed, capsys, words, message):
    before = sorted(preprocessed.iterdir())
    assert main(["plan", "-d", "17", *words]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert sorted(preprocessed.iterdir()) == before


def test_wrong_usage_exits_with_2(capsys):
    for words in ([], ["-d", "17", "--architecture", "swin"], ["-d", "17", "--spacing", "1", "1"]):
        with pytest.raises(SystemExit) as caught:
            main(["plan", *words])
        assert caught.value.code == 2


def test_verify_prints_predicted_against_measured(preprocessed, capsys, monkeypatch):
    asked = []

    def verify(step, device, dtype):
        asked.append((step.patch_size, device.type, dtype))
        return 2**30, 2**30 + 2**29

    monkeypatch.setattr("unetr_nnunet.planning.measured.verify", verify)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    words = ["plan", "-d", "17", "--verify", "--gpu-memory", "1", "--patch-size", "16", "64", "64"]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "on this CPU in torch.float32: predicted 1.00 GiB, measured 1.50 GiB (+50.0%)" in printed
    assert asked == [((16, 64, 64), "cpu", None)]


@pytest.mark.parametrize(("gib", "code"), [("1", 1), ("2", 0)])
def test_what_a_gpu_measures_is_held_against_the_target(preprocessed, capsys, monkeypatch, gib, code):
    cuda = SimpleNamespace(is_available=lambda: True, get_device_name=lambda device: "Some GPU")
    monkeypatch.setattr("torch.cuda", cuda)
    monkeypatch.setattr("unetr_nnunet.planning.measured.verify", lambda *arguments: (2**30, int(1.1 * 2**30)))
    words = ["plan", "-d", "17", "--verify", "--gpu-memory", gib, "--patch-size", "16", "64", "64"]
    assert main(words) == code
    printed = capsys.readouterr().out
    assert "on Some GPU in torch.float16: predicted 1.00 GiB, measured 1.10 GiB (+10.0%)" in printed
    assert ("plan again with a smaller one" in printed) == bool(code)
