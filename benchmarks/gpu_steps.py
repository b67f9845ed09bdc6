"""Training steps on a GPU, as a stage of `benchmarks.gpu`: right, as large as planned, and how fast.

Each case (network, patch, precision) has a process of its own, so that none sees another's memory. All processes of a
group build, compile and warm up at the same time; then they are timed one by one while the others wait. Loss and
gradient of the first step are compared with those of the same step on the CPU in float32; DropPath is off for that. Our
trainer's step trains our networks and MONAI's UNETR; nnU-Net's trains nnU-Net's default network, with the strides and
kernels that nnU-Net plans for the patch.
"""

import gc
import multiprocessing
import os
import sys
import time
from dataclasses import dataclass
from itertools import cycle
from multiprocessing.connection import Connection
from typing import Any

import psutil
import torch

from benchmarks.gpu_networks import Case, make_batch, make_trainer, predicted_bytes
from benchmarks.gpu_stage import GIB, NOT_ON_A_CPU, Stage, run_stage

MODES = ("eager", "compiled")
OURS, PEERS = ("Modified", "original"), ("MONAI UNETR", "nnU-Net default")
WARM_UP_STEPS, TIMED_STEPS = 3, 10
MOST_SKIPPED = 12
"""Steps that float16's scaler may skip until it has found its scale."""
LOSS_BOUND = 0.02
GPU_GIB_A_CASE, MAIN_GIB_A_CASE = 10, 7


def cases(stage: Stage) -> list[Case]:
    """Return what is measured, most important first."""
    if stage.tiny:
        precision = "float16" if stage.on_gpu else "float32"
        return [Case(name, patch, precision) for name, patch in zip(OURS + PEERS, cycle(stage.sizes.patches))]
    return [
        Case(name, patch, precision)
        for patch in stage.sizes.patches
        for precision in ("float16", "bfloat16")
        for name in OURS + (PEERS if precision == "float16" else ())
    ]


@dataclass
class _Child:
    case: Case
    connection: Connection
    process: Any

    def receive(self, seconds: float) -> dict[str, Any]:
        """Return the next message; one that says why not, where none comes."""
        try:
            if self.connection.poll(max(0.0, seconds)):
                message: dict[str, Any] = self.connection.recv()
                return message
            return {"missed": "not done in the stage's time"}
        except EOFError:
            self.process.join()
            return {"missed": f"its process ended with exit code {self.process.exitcode}"}


def measure_steps(stage: Stage) -> None:
    """Measure all cases, as many side by side as memory allows."""
    waiting = cases(stage)
    at_once = _at_once(stage)
    while waiting:
        group, waiting = waiting[:at_once], waiting[at_once:]
        children = [_start(stage, case, at_once) for case in group]
        for mode in MODES:
            children = [child for child in children if _is_ready(stage, child, mode)]
            for child in children:
                child.connection.send(mode)
                message = child.receive(stage.seconds_left - 5)
                stage.report({**_named(child.case, mode), **message.get("figures", {})}, message.get("missed", ""))
        for child in children:
            child.process.join()


def _named(case: Case, mode: str) -> dict[str, Any]:
    patch = " x ".join(map(str, case.patch[0]))
    return {"network": case.network, "patch": patch, "precision": case.precision, "mode": mode}


def _is_ready(stage: Stage, child: _Child, mode: str) -> bool:
    message = child.receive(stage.seconds_left - 10)
    if message.get("ready"):
        return True
    stage.report(_named(child.case, mode), message["missed"])
    child.process.kill()
    return False


def _at_once(stage: Stage) -> int:
    """Return how many cases fit side by side, with two processors each for compilation."""
    if not stage.on_gpu:
        return 2
    gpu_gib, main_gib = torch.cuda.mem_get_info()[0] / GIB, psutil.virtual_memory().available / GIB
    processors = os.cpu_count() or 1
    return max(1, min(int(gpu_gib / GPU_GIB_A_CASE), int(main_gib / MAIN_GIB_A_CASE), processors // 2))


def _start(stage: Stage, case: Case, at_once: int) -> _Child:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_measure, args=(stage, case, at_once, theirs), daemon=True)
    process.start()
    theirs.close()
    return _Child(case, ours, process)


def _measure(stage: Stage, case: Case, at_once: int, connection: Connection) -> None:
    """Measure one case in a process of its own: say "ready" when warm, go on when told to."""
    threads = max(1, (os.cpu_count() or 1) // at_once)
    os.environ.update(stage.environment)
    os.environ.update(
        {
            "nnUNet_results": str(stage.work / "steps" / str(os.getpid())),
            "OMP_NUM_THREADS": str(threads),  # our trainers obey it on a CPU
            "TORCHINDUCTOR_COMPILE_THREADS": str(2 * threads),
            "UNETR_NNUNET_PRECISION": "bfloat16" if case.precision == "bfloat16" else "float16",
        }
    )
    torch.set_num_threads(threads)
    torch.backends.cudnn.benchmark = True
    try:
        measurement = _Measurement(stage, case)
        for mode in MODES:
            measurement.warm_up(mode)
            connection.send({"ready": True})
            connection.recv()
            connection.send(measurement.timed())
    except Exception as error:
        connection.send({"missed": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"})
        raise


class _Measurement:
    """One case, and what the CPU says of its first step."""

    def __init__(self, stage: Stage, case: Case) -> None:
        self.stage, self.case = stage, case
        self.device = torch.device("cuda", 0) if stage.on_gpu else torch.device("cpu")
        self.expected: tuple[float, torch.Tensor] | None = None
        self.predicted: tuple[int, float] | None = None
        if case.network in OURS:
            reference = make_trainer(case, stage, torch.device("cpu"))
            loss = float(reference.train_step(make_batch(case, reference))["loss"])
            self.expected = loss, _gradient(reference)
            self.predicted = predicted_bytes(case, stage)
        if stage.on_gpu:
            torch.set_num_threads(1)  # as nnUNetv2_train does

    def warm_up(self, mode: str) -> None:
        """Make the first steps, and keep what is compared with the CPU."""
        self.trainer = self.batch = None
        gc.collect()
        if self.on_gpu:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        self.trainer = make_trainer(self.case, self.stage, self.device, compiled=mode == "compiled")
        self.batch = make_batch(self.case, self.trainer)
        start = time.perf_counter()
        loss, gradient, skipped = self._step_that_counts()
        self.first = {"first step, s": time.perf_counter() - start, "skipped": skipped, "loss": loss}
        self.missed = self._compare(loss, gradient)
        del gradient
        for _ in range(1 if self.stage.tiny else WARM_UP_STEPS):
            self.trainer.train_step(self.batch)
        self._wait()

    def _step_that_counts(self) -> tuple[float, torch.Tensor, int]:
        """Return loss and gradient of the first step that float16's scaler does not skip, and how many it skipped."""
        for skipped in range(MOST_SKIPPED):
            loss = float(self.trainer.train_step(self.batch)["loss"])
            gradient = _gradient(self.trainer)
            if torch.isfinite(gradient).all():
                return loss, gradient, skipped
        raise RuntimeError(f"no finite gradient in {MOST_SKIPPED} steps")

    @property
    def on_gpu(self) -> bool:
        """Whether a GPU is measured."""
        return self.stage.on_gpu

    def _compare(self, loss: float, gradient: torch.Tensor) -> str:
        if self.expected is None:
            return ""
        expected, expected_gradient = self.expected
        cosine = torch.nn.functional.cosine_similarity(gradient.double(), expected_gradient.double(), 0)
        self.first |= {"the CPU's": expected, "cosine of gradients": float(cosine)}
        difference = abs(loss / expected - 1)
        return "" if difference <= LOSS_BOUND else f"the loss is {difference:.1%} from the CPU's"

    def timed(self) -> dict[str, Any]:
        """Return time and memory of further steps."""
        if self.on_gpu:
            reserved = torch.cuda.max_memory_reserved()  # with the first steps, as a training has them too
            torch.cuda.reset_peak_memory_stats()
        start = time.perf_counter()
        steps = 2 if self.stage.tiny else TIMED_STEPS
        for _ in range(steps):
            self.trainer.train_step(self.batch)
        self._wait()
        milliseconds = (time.perf_counter() - start) / steps * 1000
        missed = [self.missed] if self.missed else []
        figures: dict[str, Any] = {"ms a step": milliseconds if self.on_gpu else NOT_ON_A_CPU, **self.first}
        figures |= dict.fromkeys(("allocated, GiB", "reserved, GiB"), NOT_ON_A_CPU)
        if self.on_gpu:
            allocated, reserved = torch.cuda.max_memory_allocated(), max(reserved, torch.cuda.max_memory_reserved())
            figures |= {"allocated, GiB": allocated / GIB, "reserved, GiB": reserved / GIB}
            if self.predicted and reserved > self.predicted[1]:
                missed.append(f"plan would ask for {self.predicted[1] / GIB:.2f} GiB, its reserve included")
        if self.predicted:
            figures["predicted, GiB"] = self.predicted[0] / GIB
        return {"figures": figures, "missed": "; ".join(missed)}

    def _wait(self) -> None:
        if self.on_gpu:
            torch.cuda.synchronize()


def _gradient(trainer: Any) -> torch.Tensor:
    """Return the clipped gradient of all weights that take part in the loss, on the CPU."""
    gradients = [weight.grad for weight in trainer.network.parameters() if weight.grad is not None]
    return torch.cat([gradient.flatten().float().cpu() for gradient in gradients])


if __name__ == "__main__":
    sys.exit(run_stage(measure_steps))
