import json
from types import SimpleNamespace

import pytest
import torch

from tests.planning.conftest import instant_memory, make_dataset, nnunet_plans
from unetr_nnunet.cli import plan
from unetr_nnunet.cli.main import main
from unetr_nnunet.planning.measured import Measurement
from unetr_nnunet.trainers.names import parse_trainer_name

__all__ = ["instant_memory", "make_dataset", "nnunet_plans"]


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
    assert lines[2].startswith("3d_lowres: patch ")
    assert lines[3].startswith("2d: patch 512 x 512, token 16 x 16, batch ")
    assert "memory is predicted, for half precision on CUDA, not measured; 1 GiB and 10% are kept" in printed
    assert "forward and backward" not in printed
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
    sizes = "--patch-size 96 96 16 --token-size 4 4 4 --batch-size 3"
    words = f"--name Mine --spacing 3 1 1 {sizes} --explain --gpu-memory 24 --tflop-per-step 7"
    assert main(["plan", "-d", "17", *words.split()]) == 0
    printed = capsys.readouterr().out
    configuration = json.loads((preprocessed / "Mine.json").read_text())["configurations"]["3d_fullres"]
    assert (configuration["patch_size"], configuration["batch_size"]) == ([96, 96, 16], 3)
    assert configuration["spacing"] == [3.0, 1.0, 1.0]
    assert configuration["architecture"]["arch_kwargs"]["token_size"] == [4, 4, 4]
    assert "3.000 x 1.000 x 1.000 mm, given by --spacing" in printed
    assert "as given" in printed
    assert "TFLOP a step, forward and backward, of 7.0 TFLOP: as given" in printed


def test_shared_data_needs_no_preprocessing(preprocessed, capsys):
    main(["plan", "-d", "17", "--name", "Ours", "--gpu-memory", "24"])
    plans = json.loads((preprocessed / "Ours.json").read_text())
    (preprocessed / "nnUNetPlans.json").write_text(json.dumps(plans))
    (preprocessed / "Ours_3d_fullres").mkdir()
    capsys.readouterr()
    main(["plan", "-d", "17", "--gpu-memory", "24"])
    printed = capsys.readouterr().out
    assert "shares the preprocessed data of nnUNetPlans: 2d, 3d_lowres, 3d_fullres" in printed
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
    for words in ([], ["-d", "17", "--spacing", "1", "1"]):
        with pytest.raises(SystemExit) as caught:
            main(["plan", *words])
        assert caught.value.code == 2


VERIFY = ["plan", "-d", "17", "--verify", "--gpu-memory"]


def test_verify_prints_predicted_against_measured(preprocessed, capsys, monkeypatch):
    asked = []

    def verify(step, training):
        asked.append((step.patch_size, training.device.type, training.autocast_dtype, training.compiled))
        return 2**30, Measurement(2**30 + 2**29, None)

    monkeypatch.setattr("unetr_nnunet.planning.measured.verify", verify)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert main([*VERIFY, "2", "--patch-size", "16", "64", "64"]) == 0
    printed = capsys.readouterr().out
    assert "on this CPU in torch.float32: predicted 1.00 GiB, allocated 1.50 GiB (+50.0%)\n" in printed
    assert asked == [((16, 64, 64), "cpu", None, False)]


@pytest.fixture
def some_gpu(monkeypatch):
    """A GPU that is not there, in float16."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda device: "Some GPU")
    monkeypatch.setattr("torch.amp.GradScaler", lambda device: SimpleNamespace(device=device))


@pytest.mark.parametrize(("gib", "code"), [("2", 1), ("2.3", 0)])
def test_what_a_gpu_reserves_is_held_against_the_target(preprocessed, some_gpu, capsys, monkeypatch, gib, code):
    """1.25 GiB, and 1 GiB for the context."""
    measured = Measurement(int(1.1 * 2**30), int(1.25 * 2**30))
    monkeypatch.setattr("unetr_nnunet.planning.measured.verify", lambda *arguments: (2**30, measured))
    assert main([*VERIFY, gib, "--patch-size", "16", "64", "64"]) == code
    printed = capsys.readouterr().out
    assert "on Some GPU in torch.float16, compiled: predicted 1.00 GiB, allocated 1.10 GiB (+10.0%), res" in printed
    assert "reserved 1.25 GiB" in printed
    assert ("this is more than the 1.00 GiB that --gpu-memory 2 leaves" in printed) == bool(code)


def test_a_step_on_a_gpu_is_the_trainers(some_gpu, monkeypatch):
    steps = []
    monkeypatch.setattr("unetr_nnunet.trainers.step.optimisation_step", lambda *batch, **how: steps.append(how))
    training = plan._training()
    assert (training.device.type, training.autocast_dtype, training.compiled) == ("cuda", torch.float16, True)
    training.update()
    assert steps[0].pop("scaler").device == "cuda"
    assert steps == [{"max_norm": 1.0, "autocast_dtype": torch.float16}]
    monkeypatch.setenv("nnUNet_compile", "f")
    assert not plan._training().compiled


def test_bfloat16_needs_no_scaler(some_gpu, monkeypatch):
    monkeypatch.setenv("UNETR_NNUNET_PRECISION", "bfloat16")
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation: True)
    training = plan._training()
    assert training.autocast_dtype == torch.bfloat16
    assert training.update.keywords == {"max_norm": 1.0, "scaler": None, "autocast_dtype": torch.bfloat16}


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory."), RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED")]
)
def test_a_step_that_runs_out_of_memory_says_what_to_do(preprocessed, some_gpu, capsys, monkeypatch, error):
    def verify(step, training):
        raise error

    monkeypatch.setattr("unetr_nnunet.planning.measured.verify", verify)
    assert main([*VERIFY, "24", "--patch-size", "16", "64", "64"]) == 1
    message = capsys.readouterr().err
    assert "--verify: the step ran out of memory on cuda" in message
    assert "plan again with a smaller --gpu-memory" in message
    assert message.count("\n") == 1


def test_other_errors_of_the_step_are_not_taken_for_a_lack_of_memory(preprocessed, some_gpu, capsys, monkeypatch):
    def verify(step, training):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr("unetr_nnunet.planning.measured.verify", verify)
    assert main([*VERIFY, "24"]) == 1
    assert capsys.readouterr().err == "error: mat1 and mat2 shapes cannot be multiplied\n"


def test_another_packages_network(otherlab, preprocessed, capsys):
    assert main(["plan", "-d", "17", "--gpu-memory", "24", "--architecture", "line"]) == 0
    printed = capsys.readouterr().out
    assert "2d is left out: Line (otherlab 1.2) takes no 2-D patches" in printed
    assert next_commands(printed)[-1].endswith("-p UNETRPlans_Line -tr nnUNetTrainerNet_Line")
    assert main(["plan", "-d", "17", "--architecture", "pyramid", "--size", "Tiny"]) == 1
    assert "size 'Tiny': choose one of base, Slim" in capsys.readouterr().err
    assert main(["plan", "-d", "17", "--architecture", "swin"]) == 1
    assert "there is no architecture 'swin'" in capsys.readouterr().err
