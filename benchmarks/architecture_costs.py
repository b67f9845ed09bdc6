"""What each architecture costs, beside its peers, as a Markdown table: parameters, operations, memory, time of a step.

Operations are those of a forward pass, 2 per multiply-add, a sample. Saved activations are what autograd keeps for the
backward pass in float32 on a CPU, each storage once, a sample. Training memory is those of two samples, and 16 bytes a
parameter (weight, gradient, AdamW's two moments). A training step of one sample (forward, backward and AdamW, on the
sum of the squares of all outputs) is really run: each network in turn, one step to warm up and two timed ones a round,
median.

The last table holds every registered network in every size as `unetr_nnunet plan` counts it, by tracing a training step
of two samples in float16 on a GPU: nothing is run, and no time is measured.

    python benchmarks/architecture_costs.py --rounds 2
    python benchmarks/architecture_costs.py --rounds 0          counts only
    python benchmarks/architecture_costs.py --planned           the last table only; the others stay
"""

import argparse
import datetime
import gc
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from dynamic_network_architectures.architectures.primus import Primus
from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet
from monai.networks.nets import UNETR as MonaiUNETR  # noqa: N811
from monai.networks.nets import SwinUNETR
from nnunetv2.experiment_planning.experiment_planners.network_topology import get_pool_and_conv_props
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from unetr_nnunet.architectures import registry
from unetr_nnunet.architectures.build import build_unetr
from unetr_nnunet.architectures.networks import patch_multiple
from unetr_nnunet.architectures.presets import ARCHITECTURES
from unetr_nnunet.planning.memory import predict_memory
from unetr_nnunet.planning.training_step import TrainingStep

RESULTS = Path(__file__).resolve().parents[1] / "docs" / "reference" / "costs.md"
OUTPUTS = 14
BATCH = 2
ADAMW_BYTES = 16
CASES = {(96, 96, 96): (1.5, 1.5, 1.5), (48, 192, 192): (3.0, 0.76, 0.76), (96, 96, 16): (1.5, 1.5, 1.5)}
GIB = 2**30
PLANNED = "## Every network in every size"
PLANNED_PATCHES = ((96, 96, 96), (48, 192, 192))


def nnunet(
    kind: type[nn.Module], patch: tuple[int, ...], spacing: tuple[float, ...], blocks: tuple[int, ...]
) -> nn.Module:
    """Return the U-Net that nnU-Net's planners make for a patch: their features, blocks, strides and kernels."""
    _, strides, kernels, _, _ = get_pool_and_conv_props(spacing, patch, 4, 999999)
    stages = len(strides)
    counts = {"n_conv_per_stage" if kind is PlainConvUNet else "n_blocks_per_stage": list(blocks[:stages])}
    return kind(
        1,
        stages,
        [min(320, 32 * 2**stage) for stage in range(stages)],
        nn.Conv3d,
        [tuple(kernel) for kernel in kernels],
        [tuple(stride) for stride in strides],
        num_classes=OUTPUTS,
        n_conv_per_stage_decoder=[2 if kind is PlainConvUNet else 1] * (stages - 1),
        conv_bias=True,
        norm_op=nn.InstanceNorm3d,
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
        deep_supervision=True,
        **counts,
    )


def networks(patch: tuple[int, ...], spacing: tuple[float, ...]) -> dict[str, Callable[[], nn.Module]]:
    """Return builders of ours and of the peers for one patch."""

    def ours(architecture: str, blocks: bool = True) -> Callable[[], nn.Module]:
        def build() -> nn.Module:
            network = build_unetr(patch, spacing, 1, OUTPUTS, architecture=architecture, transformer_blocks=blocks)
            network.decoder.deep_supervision = True
            return network

        return build

    def primus() -> nn.Module:
        return Primus(
            1, 864, (8, 8, 8), OUTPUTS, 16, 12, patch, drop_path_rate=0.2, scale_attn_inner=True, init_values=0.1
        )

    found = {f"UNETR, {name}" if name == "original" else name: ours(name) for name in ARCHITECTURES}
    return found | {
        "Modified, NoTransformer": ours("Modified", False),
        "MONAI UNETR": lambda: MonaiUNETR(1, OUTPUTS, patch),
        **({} if min(patch) % 32 else {"MONAI SwinUNETR": lambda: SwinUNETR(1, OUTPUTS, feature_size=48)}),
        "nnU-Net PlainConvUNet": lambda: nnunet(PlainConvUNet, patch, spacing, (2,) * 10),
        "nnU-Net ResEnc-L": lambda: nnunet(ResidualEncoderUNet, patch, spacing, (1, 3, 4, 6, 6, 6, 6)),
        "Primus-M": primus,
    }


def loss_of(outputs: torch.Tensor | list[torch.Tensor] | tuple[torch.Tensor, ...]) -> torch.Tensor:
    """Return a loss that every output takes part in."""
    scales = [outputs] if isinstance(outputs, torch.Tensor) else list(outputs)
    return torch.stack([scale.float().square().mean() for scale in scales]).sum()


def counts(build: Callable[[], nn.Module], patch: tuple[int, ...]) -> tuple[float, float, float]:
    """Return parameters in millions, operations of a forward pass in GFLOP a sample, saved activations in GiB."""
    network = build()
    saved: dict[int, int] = {}
    kept: list[torch.Tensor] = []
    own = {value.untyped_storage()._cdata for value in network.parameters()}

    def keep(tensor: torch.Tensor) -> None:  # there is no backward pass
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            saved[storage._cdata] = storage.nbytes()
        kept.append(tensor.detach())  # a freed storage's address would be given to another

    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda nothing: nothing)
    with FlopCounterMode(display=False) as operations, hooks:
        network(torch.randn(1, 1, *patch))
    parameters = sum(value.numel() for value in network.parameters())
    return parameters / 1e6, operations.get_total_flops() / 1e9, sum(saved.values()) / GIB


def step_times(
    builders: dict[str, Callable[[], nn.Module]], patch: tuple[int, ...], device: str, rounds: int
) -> dict[str, float]:
    """Return the median seconds of a training step of each network, all run in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in builders}
    image = torch.randn(1, 1, *patch, device=device)
    for round_number in range(rounds):
        for name, build in builders.items():
            network = build().to(device).train()
            optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
            for attempt in range(3):  # the first one warms up
                start = time.perf_counter()
                with torch.autocast(device, enabled=device == "cuda"):
                    outputs = network(image)
                loss_of(outputs).backward()
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                if device == "cuda":
                    torch.cuda.synchronize()
                if attempt:
                    seconds[name].append(time.perf_counter() - start)
            del network, optimizer, outputs
            gc.collect()
            print(f"round {round_number + 1}: {name} {seconds[name][-1]:.2f} s", flush=True)
    return {name: statistics.median(values) for name, values in seconds.items()}


def table(patch: tuple[int, ...], spacing: tuple[float, ...], device: str, rounds: int) -> list[str]:
    """Return the lines of one patch's table."""
    builders = networks(patch, spacing)
    costs = {name: counts(build, patch) for name, build in builders.items()}
    times = step_times(builders, patch, device, rounds) if rounds else {}
    lines = [
        f"## Patch {' x '.join(map(str, patch))} at {' x '.join(map(str, spacing))} mm",
        "",
        "| network | parameters, M | GFLOP | saved, GiB | training memory, GiB | of the original's | training step, s "
        "| of the original's |",
        "|---|---|---|---|---|---|---|---|",
    ]
    memory = {
        name: BATCH * saved + ADAMW_BYTES * parameters * 1e6 / GIB for name, (parameters, _, saved) in costs.items()
    }
    for name, (parameters, operations, saved) in costs.items():
        timed = f"{times[name]:.2f} | {times[name] / times['UNETR, original']:.2f}" if times else "not measured | "
        lines.append(
            f"| {name} | {parameters:.1f} | {operations:.0f} | {saved:.2f} | {memory[name]:.2f} | "
            f"{memory[name] / memory['UNETR, original']:.2f} | {timed} |"
        )
    return [*lines, ""]


def planned_step(name: str, size: str, patch: tuple[int, ...]) -> TrainingStep | None:
    """Return a training step, or None if the network does not take the patch."""
    multiple = patch_multiple(registry.load(name), CASES[patch])
    unfit = any(axis % step for axis, step in zip(patch, multiple, strict=True))
    return None if unfit else TrainingStep(name, size, patch, BATCH, CASES[patch], (), 1, OUTPUTS)


def planned_row(name: str, size: str) -> str:
    """Return one line of the table of all registered networks."""
    cells = []
    for patch in PLANNED_PATCHES:
        step = planned_step(name, size, patch)
        if step is None:
            cells += ["", ""]
            continue
        estimate = predict_memory(step)
        parameters = estimate.at_peak["optimizer state"] / 8 / 1e6  # two moments of four bytes
        cells += [f"{estimate.flop / 1e12:.2f}", f"{estimate.peak / GIB:.2f}"]
    row = f"| {name} | {size} | {parameters:.1f} | {' | '.join(cells)} |"
    print(row, flush=True)
    return row


def planned_table() -> list[str]:
    """Return the lines of the table of all registered networks."""
    heads = [f"{' x '.join(map(str, patch))}: TFLOP | GiB" for patch in PLANNED_PATCHES]
    lines = [
        PLANNED,
        "",
        f"As `unetr_nnunet plan` counts them, {datetime.date.today()}, torch {torch.__version__}: operations and peak "
        f"memory of a training step of batch {BATCH} in float16 on a GPU, {OUTPUTS} outputs, at the spacings above. "
        "Parameters at the last patch. Traced, not run: none of them was timed, and for some operations (grouped "
        "convolutions, small windows of attention) a GPU takes longer than their number says. Empty cells: a side of "
        "the patch is no multiple of what the network asks for.",
        "",
        f"| network | size | parameters, M | {' | '.join(heads)} |",
        "|---|---|---" + "|---|---" * len(heads) + "|",
    ]
    rows = [planned_row(name, size) for name in registry.names() for size in registry.load(name).sizes]
    return [*lines, *rows, ""]


def main() -> None:
    """Measure everything and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--planned", action="store_true")
    arguments = parser.parse_args()
    if arguments.planned:
        before, _, _ = arguments.output.read_text(encoding="utf-8").partition(PLANNED)
        arguments.output.write_text("\n".join([before.rstrip(), "", *planned_table()]), encoding="utf-8")
        return
    where = torch.cuda.get_device_name() if arguments.device == "cuda" else f"{torch.get_num_threads()} threads"
    lines = [
        "# What the architectures cost",
        "",
        f"Written by `benchmarks/architecture_costs.py`, whose docstring says how, on {datetime.date.today()}: "
        f"{arguments.device} ({where}), {platform.machine()}, {torch.backends.cpu.get_cpu_capability()}, torch "
        f"{torch.__version__}. GFLOP are of the forward pass, saved the activations kept for the backward pass in "
        f"float32, step the time of a training step, each of one sample; training memory is that of batch {BATCH}, "
        f"with gradients and AdamW's moments. {OUTPUTS} outputs, base size. Step times are medians of "
        f"{2 * arguments.rounds} steps and good for ratios only. SwinUNETR wants sides that 32 divides.",
        "",
    ]
    for patch, spacing in CASES.items():
        lines += table(patch, spacing, arguments.device, arguments.rounds)
        arguments.output.write_text("\n".join(lines), encoding="utf-8")
    arguments.output.write_text("\n".join([*lines, *planned_table()]), encoding="utf-8")


if __name__ == "__main__":
    main()
