import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from batchgenerators.utilities.file_and_folder_operations import load_pickle, write_pickle

from unetr_nnunet.trainers.resumable import EXIT_CODE_SIGTERM, MINUTES_VARIABLE

Make = Callable[..., Any]
NAME = "nnUNetTrainerUNETR_Tiny_2epochs_seed1"


def record(trainer: Any, at_step: Callable[[int], None] = lambda step: None) -> list[float]:
    """Note the loss of every iteration; call ``at_step`` with its number before it runs."""
    losses: list[float] = []
    step = trainer.optimisation_step

    def recording_step(batch: dict[str, Any]) -> dict[str, Any]:
        at_step(len(losses))
        output = step(batch)
        losses.append(float(output["loss"]))
        return output

    trainer.optimisation_step = recording_step
    return losses


def latest(trainer: Any) -> Path:
    return Path(trainer.output_folder) / "checkpoint_latest.pth"


@pytest.mark.parametrize(("step", "processes"), [(2, "0"), (5, "1")])
def test_sigterm_saves_and_the_run_goes_on_as_if_undisturbed(
    make_trainer: Make, monkeypatch: pytest.MonkeyPatch, step: int, processes: str
) -> None:
    monkeypatch.setenv("nnUNet_n_proc_DA", processes)
    undisturbed = make_trainer(NAME)
    expected = record(undisturbed)
    undisturbed.run_training()

    killed = make_trainer(NAME)
    before = record(killed, lambda number: os.kill(os.getpid(), signal.SIGTERM) if number == step else None)
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as stop:
        killed.run_training()
    assert stop.value.code == EXIT_CODE_SIGTERM == 143
    assert signal.getsignal(signal.SIGTERM) is handler
    assert len(before) == step + 1

    resumed = make_trainer(NAME)
    resumed.load_checkpoint(str(latest(killed)))
    assert resumed.current_epoch == step // 4
    after = record(resumed)
    resumed.run_training()
    assert before + after == expected
    for key in ("train_losses", "val_losses", "mean_fg_dice"):
        assert resumed.logger.get_value(key, None) == undisturbed.logger.get_value(key, None)
    weights = undisturbed.network.state_dict()
    assert all(torch.equal(value, weights[key]) for key, value in resumed.network.state_dict().items())
    assert not latest(resumed).exists(), "nnU-Net removes the running checkpoint at the end"


def test_a_checkpoint_that_is_cut_short_gives_way_to_the_best_or_is_named(make_trainer: Make) -> None:
    trainer = make_trainer(NAME)
    trainer.initialize()
    folder = latest(trainer).parent
    folder.mkdir(parents=True, exist_ok=True)
    trainer.current_epoch = 1
    best = folder / "checkpoint_best.pth"
    trainer.save_checkpoint(str(best))
    latest(trainer).write_bytes(best.read_bytes()[:1000])
    resumed = make_trainer(NAME)
    resumed.load_checkpoint(str(latest(trainer)))
    assert resumed.current_epoch == 2
    assert "checkpoint_latest.pth is cut short: going on from checkpoint_best.pth" in Path(resumed.log_file).read_text()
    best.write_bytes(best.read_bytes()[:1000])
    for path in (latest(trainer), best):
        with pytest.raises(ValueError, match=rf"{path.name} is cut short: delete it; --c then goes on"):
            resumed.load_checkpoint(str(path))


def test_another_users_plans_in_a_shared_folder_are_replaced(
    make_trainer: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make_trainer(NAME)
    plans = Path(trainer.output_folder_base) / "plans.json"
    plans.parent.mkdir(parents=True, exist_ok=True)
    plans.write_text("{}")
    theirs = plans.parent / "theirs.json"
    theirs.hardlink_to(plans)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    trainer.on_train_start()
    trainer._stop_augmentation_workers()
    assert theirs.read_text() == "{}", "the file itself is not written to"
    assert "plans_name" in plans.read_text()


def test_a_full_disk_is_named_and_the_checkpoint_before_stays(
    make_trainer: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make_trainer(NAME)
    trainer.initialize()
    trainer.save_checkpoint(str(latest(trainer)))
    before = latest(trainer).read_bytes()

    def save(checkpoint: dict[str, Any], path: Path) -> None:
        path.write_bytes(b"torn")
        raise RuntimeError("[enforce fail at inline_container.cc:671] . unexpected pos 64 vs 0")

    monkeypatch.setattr(torch, "save", save)
    with pytest.raises(OSError, match=r"latest\.pth could not be written, with \d+ MiB free there .* make room"):
        trainer.save_checkpoint(str(latest(trainer)))
    assert latest(trainer).read_bytes() == before
    assert [path.name for path in latest(trainer).parent.glob("*.pth")] == [latest(trainer).name]


def test_sigterm_during_validation_is_kept_too(make_trainer: Make) -> None:
    killed = make_trainer(NAME)
    record(killed)
    validation_step = killed.validation_step

    def terminating_step(batch: dict[str, Any]) -> dict[str, Any]:
        os.kill(os.getpid(), signal.SIGTERM)
        return validation_step(batch)

    killed.validation_step = terminating_step
    with pytest.raises(SystemExit):
        killed.run_training()
    resumed = make_trainer(NAME)
    resumed.load_checkpoint(str(latest(killed)))
    losses = record(resumed)
    resumed.run_training()
    assert len(losses) == 4, "the first epoch's iterations are not run again"
    assert len(resumed.logger.get_value("train_losses", None)) == 2


def test_checkpoints_are_written_every_few_minutes(make_trainer: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MINUTES_VARIABLE, "0")
    trainer = make_trainer(NAME)
    seen: list[int] = []
    record(
        trainer,
        lambda step: (
            seen.append(len(torch.load(latest(trainer), weights_only=False)["finished_steps"])) if step else None
        ),
    )
    trainer.run_training()
    # before the n-th iteration the checkpoint holds all before it; after an epoch, its last validation step's
    assert seen == [1, 2, 3, 4, 1, 2, 3]


def test_no_checkpoint_between_where_the_interval_is_long(make_trainer: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(MINUTES_VARIABLE, raising=False)
    trainer = make_trainer(NAME)
    record(trainer, lambda step: pytest.fail("written early") if latest(trainer).exists() else None)
    trainer.run_training()


@pytest.mark.parametrize("text", ["ten", "-1", "nan"])
def test_a_wrong_interval_is_refused(make_trainer: Make, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(MINUTES_VARIABLE, text)
    with pytest.raises(ValueError, match=f"{MINUTES_VARIABLE}='{text}'"):
        make_trainer(NAME)


def test_a_failed_write_keeps_the_checkpoint_before(make_trainer: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make_trainer(NAME)
    trainer.initialize()
    target = latest(trainer)
    trainer.save_checkpoint(str(target))
    whole = target.read_bytes()

    def full_disk(content: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(OSError, match="No space left"):
        trainer.save_checkpoint(str(target))
    assert target.read_bytes() == whole
    assert [path.name for path in target.parent.glob(".tmp-*")] == []


def test_nnunets_own_checkpoint_loads(make_trainer: Make, tmp_path: Path) -> None:
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    trainer = make_trainer(NAME)
    trainer.initialize()
    nnUNetTrainer.save_checkpoint(trainer, str(tmp_path / "stock.pth"))
    trainer.load_checkpoint(str(tmp_path / "stock.pth"))
    assert trainer.current_epoch == 1
    ours, stock = tmp_path / "ours.pth", torch.load(tmp_path / "stock.pth", weights_only=False)
    trainer.save_checkpoint(str(ours))
    assert set(torch.load(ours, weights_only=False)) - set(stock) == {"finished_steps", "array_orientation"}
    assert set(stock) <= set(torch.load(ours, weights_only=False)), "nnU-Net gained a checkpoint entry that ours lacks"


def test_the_orientation_of_the_training_cases_is_stored(make_trainer: Make) -> None:
    trainer = make_trainer(NAME)
    read: list[str] = []
    properties = trainer.preprocessed_properties

    def counted() -> Iterator[tuple[str, dict[str, Any]]]:
        for case, found in properties():
            read.append(case)
            yield case, found

    trainer.preprocessed_properties = counted
    trainer.run_training()
    final = torch.load(Path(trainer.output_folder) / "checkpoint_final.pth", weights_only=False)
    assert final["array_orientation"] == "RAS", "the reader reorients the LPS images"
    assert read == [f"case_{number}" for number in range(5)], "each case is looked at once"


def test_an_unknown_orientation_is_stored_as_none(make_trainer: Make) -> None:
    trainer = make_trainer(NAME)
    folder = Path(trainer.preprocessed_dataset_folder)
    for number, direction in enumerate((np.eye(3), np.diag([-1.0, -1.0, 1.0]))):
        found = load_pickle(str(folder / f"case_{number}.pkl"))
        del found["nibabel_stuff"]
        write_pickle(
            found | {"sitk_stuff": {"direction": tuple(direction.ravel())}}, str(folder / f"case_{number}.pkl")
        )
    trainer.run_training()
    final = torch.load(Path(trainer.output_folder) / "checkpoint_final.pth", weights_only=False)
    assert final["array_orientation"] is None


def test_a_checkpoint_of_another_network_is_refused_in_one_line(make_trainer: Make) -> None:
    """Such as one that an older version has written."""
    other = make_trainer("nnUNetTrainerUNETR_Tiny_2epochs_seed0")
    other.initialize()
    path = str(Path(other.output_folder) / "checkpoint_latest.pth")
    other.save_checkpoint(path)
    resumed = make_trainer("nnUNetTrainerUNETR_ModernViT_Tiny_2epochs_seed0")
    resumed.initialize()
    with pytest.raises(ValueError, match=r"checkpoint_latest.pth does not fit this network .* train again without --c"):
        resumed.load_checkpoint(path)
