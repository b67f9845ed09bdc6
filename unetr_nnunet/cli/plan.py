"""Plan token, patch and batch size of a network for a GPU, as a plans file for nnU-Net's own commands.

Networks are UNETR and its modifications, and those that other packages register (unetr_nnunet trainers lists them).

Memory and operations are predicted from the network itself; no GPU is needed. The data set's fingerprint must be there
(nnUNetv2_plan_and_preprocess -d ID, or nnUNetv2_extract_fingerprint -d ID).

example:
  unetr_nnunet plan -d 17 --architecture Modified --gpu-memory 24
  unetr_nnunet plan -d 17 --architecture original --patch-size 96 96 96 --batch-size 2 --explain
"""

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unetr_nnunet.planning.measured import Training
    from unetr_nnunet.planning.planner import UNETRPlanner
    from unetr_nnunet.trainers.names import TrainerName


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("-d", "--dataset-id", type=int, required=True, metavar="ID", help="number of the data set")
    parser.add_argument(
        "--architecture",
        metavar="NAME",
        default="Modified",
        help="of the trainer that will use the plans, in any case (default: %(default)s)",
    )
    parser.add_argument(
        "--size", metavar="NAME", default="", help="of the network, in any case (default: the architecture's first)"
    )
    parser.add_argument(
        "--gpu-memory", type=float, default=8, metavar="GIB", help="of the GPU that will train (default: %(default)s)"
    )
    parser.add_argument(
        "--tflop-per-step",
        type=float,
        metavar="N",
        help="operations of a training step, forward and backward (default: twice what nnU-Net's own plan takes)",
    )
    parser.add_argument(
        "--spacing",
        type=float,
        nargs=3,
        metavar=("Z", "Y", "X"),
        help="target spacing in mm, in the order of the image's axes as nnU-Net reads them (default: nnU-Net's rule)",
    )
    parser.add_argument(
        "--patch-size",
        type=int,
        nargs="+",
        metavar="N",
        help="patch Z Y X of 3d_fullres, or Y X of 2d, in voxels, in the order of the plans' axes "
        "(default: the largest that fits, up to twice nnU-Net's own)",
    )
    parser.add_argument(
        "--token-size",
        type=int,
        nargs="+",
        metavar="N",
        help="token of the same configuration, such as 16 16 16 for released weights (default: the finest that fits)",
    )
    parser.add_argument("--batch-size", type=int, metavar="N", help="batch size of the same configuration")
    parser.add_argument("--name", help="name of the plans (default: UNETRPlans_<architecture>[_<size>])")
    parser.add_argument("--explain", action="store_true", help="print the reasoning behind each configuration")
    parser.add_argument(
        "--verify",
        action="store_true",
        help="run two steps of the trainer on this machine's GPU or CPU and compare the memory",
    )


def run(arguments: argparse.Namespace) -> int:
    """Plan, write the plans file, say what was planned and which commands come next."""
    from tqdm import tqdm

    from unetr_nnunet.dataset_conversion.check_raw import check_dataset_to_plan
    from unetr_nnunet.planning.planner import UNETRPlanner

    trainer = _trainer(arguments.architecture, arguments.size)
    check_dataset_to_plan(arguments.dataset_id)

    with tqdm(desc="predicting memory", unit=" steps", leave=False, disable=None) as bar:
        planner = UNETRPlanner(
            arguments.dataset_id,
            arguments.gpu_memory,
            plans_name=arguments.name,
            overwrite_target_spacing=arguments.spacing,
            architecture=trainer.architecture,
            size=trainer.size,
            patch_size=arguments.patch_size,
            token_size=arguments.token_size,
            batch_size=arguments.batch_size,
            tflop_per_step=arguments.tflop_per_step,
            progress=lambda step: bar.update(),
        )
        planner.plan_experiment()
    print("\n".join(_report_lines(planner, explain=arguments.explain)))
    fits = not arguments.verify or _verify(planner)
    print("\n".join(["", "next:", *(f"  {line}" for line in _next_commands(planner, trainer))]))
    return 0 if fits else 1


def _trainer(architecture: str, size: str) -> "TrainerName":
    """Return the trainer whose network is planned for; the names may be in any case.

    Raises:
        ValueError: if there is no such architecture, or it has no such size, or no trainer's name can hold them.
    """
    from unetr_nnunet.architectures.registry import load
    from unetr_nnunet.trainers.names import TrainerName

    found = load(architecture)
    spelling = {name.lower(): name for name in found.sizes}
    return TrainerName(architecture=found.name, size=spelling.get(size.lower(), size))


def _report_lines(planner: "UNETRPlanner", *, explain: bool) -> list[str]:
    from unetr_nnunet.planning.explain import NOT_MEASURED, explanation, summary

    lines = [f"wrote {planner.plans_file}"]
    if not planner.has_ct:
        lines.append("note: no channel is called CT; each is normalised by its own mean and deviation")
    for name, choice in planner.choices.items():
        lines.append(summary(name, choice))
        if explain:
            lines += explanation(choice, planner.spacing_source(name))
    lines += [f"{name} is left out: {reason}" for name, reason in planner.left_out.items()]
    if planner.shared_data:
        lines.append(f"shares the preprocessed data of nnUNetPlans: {', '.join(planner.shared_data)}")
    return [*lines, NOT_MEASURED]


def _verify(planner: "UNETRPlanner") -> bool:
    """Print predicted against measured memory; return whether the step fits, where that can be said.

    Raises:
        ValueError: if less memory is free than the step is predicted to need, or it runs out.
    """
    import torch

    from unetr_nnunet.inference.out_of_memory import is_out_of_memory
    from unetr_nnunet.planning.explain import gib
    from unetr_nnunet.planning.measured import verify
    from unetr_nnunet.planning.memory import CONTEXT, GIB

    training = _training()
    try:
        predicted, measured = verify(planner.choices[planner.main_configuration].step, training)
    except RuntimeError as error:
        if not is_out_of_memory(error, training.device):
            raise
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"--verify: the step ran out of memory on {training.device} ({reason}): plan again with a smaller "
            "--gpu-memory"
        ) from error
    on_gpu = training.device.type == "cuda"
    where = torch.cuda.get_device_name(training.device) if on_gpu else "this CPU"
    comparison = f"allocated {gib(measured.allocated)}"
    if predicted is not None:
        difference = measured.allocated / predicted - 1
        comparison = f"predicted {gib(predicted)}, {comparison} ({difference:+.1%})"
    print(
        f"verified {planner.main_configuration} on {where} in {training.autocast_dtype or torch.float32}"
        f"{', compiled' if training.compiled else ''}: {comparison}"
        + ("" if measured.reserved is None else f", reserved {gib(measured.reserved)}")
    )
    limit = planner.sizing.gpu_memory_gib * GIB - CONTEXT
    fits = measured.reserved is None or measured.reserved <= limit
    if not fits:
        print(
            f"this is more than the {gib(limit)} that --gpu-memory {planner.sizing.gpu_memory_gib:g} leaves beside the "
            "CUDA context: plan again with a smaller one"
        )
    return fits


def _training() -> "Training":
    """Return how our trainer runs a step on this machine's GPU, or on the CPU without one."""
    import os
    from functools import partial

    import torch

    from unetr_nnunet.planning.measured import Training
    from unetr_nnunet.trainers.precision import training_dtype
    from unetr_nnunet.trainers.recipes import RECIPES
    from unetr_nnunet.trainers.step import optimisation_step

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype, _ = training_dtype(device)
    update = partial(
        optimisation_step,
        max_norm=RECIPES["recommended"].max_gradient_norm,
        scaler=torch.amp.GradScaler(device.type) if dtype == torch.float16 else None,
        autocast_dtype=dtype,
    )
    wants_compiling = os.environ.get("nnUNet_compile", "true").lower() in ("true", "1", "t")  # as nnU-Net reads it
    return Training(device, dtype, update, compiled=device.type == "cuda" and wants_compiling)


def _next_commands(planner: "UNETRPlanner", trainer: "TrainerName") -> list[str]:
    number, configuration = int(planner.dataset_name[7:10]), planner.main_configuration
    lines = ['eval "$(unetr_nnunet env)"']
    if not planner.is_preprocessed(configuration):
        lines.append(f"nnUNetv2_preprocess -d {number} -plans_name {planner.plans_identifier} -c {configuration}")
    return [*lines, f"nnUNetv2_train {number} {configuration} 0 -p {planner.plans_identifier} -tr {trainer}"]
