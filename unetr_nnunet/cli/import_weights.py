"""Turn a released UNETR checkpoint (MONAI's layout) into an nnU-Net model, or a starting point for a training.

FILE is a state dict (.pth) or a TorchScript archive (.pt); no code in it is run. Without --for, a model folder is
written into the folder PATH, which nnUNetv2_predict uses as it is. With --for, the weights are fitted to a plan and
written to the file PATH, for nnUNetv2_train -pretrained_weights.

example:
  unetr_nnunet import-weights UNETR_model_best_acc.pth -o "$nnUNet_results"/Dataset017_BTCV
  unetr_nnunet import-weights UNETR_model_best_acc.pth --for nnUNetPlans.json -c 3d_fullres -o start.pth
"""

import argparse
import os
import re
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from unetr_nnunet.trainers.names import BASE_NAME

if TYPE_CHECKING:
    from unetr_nnunet.weights.released_unetr import ReleasedUNETR


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("file", type=Path, metavar="FILE", help="the released checkpoint, .pth or .pt")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="PATH",
        help="folder of a data set in nnUNet_results, DatasetXXX_Name; with --for the checkpoint to write",
    )
    parser.add_argument("--for", type=Path, dest="plans", metavar="PLANS", help="plans of the data set to train on")
    parser.add_argument("-c", "--configuration", default="3d_fullres", help="of PLANS (default: 3d_fullres)")
    parser.add_argument("--heads", type=int, metavar="N", help="attention heads (default: 12, if tokens are 768 wide)")
    parser.add_argument(
        "--window", type=int, nargs=3, metavar=("X", "Y", "Z"), help="the model's img_size (default: a cube)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace what exists")


def run(arguments: argparse.Namespace) -> int:
    """Import, and print what was found and the command that comes next."""
    from unetr_nnunet.weights.checkpoint_file import read_state_dict
    from unetr_nnunet.weights.imported_model import check_absent, imported_folder, write_model_folder
    from unetr_nnunet.weights.released_unetr import recognise
    from unetr_nnunet.weights.training_start import write_training_start

    source, output = str(arguments.file), arguments.output
    check_absent(output if arguments.plans else imported_folder(output), arguments.overwrite)
    released = recognise(read_state_dict(arguments.file), source, heads=arguments.heads, window=arguments.window)
    print(f"{source}: {_describe(released)}")
    if arguments.plans is None:
        folder = write_model_folder(released, source, output, overwrite=arguments.overwrite)
        print(f'wrote {folder}\n\nnext:\n  eval "$(unetr_nnunet env)"\n  {_predict_command(output, folder)}')
        return 0
    start = write_training_start(
        released, source, arguments.plans, arguments.configuration, output, overwrite=arguments.overwrite
    )
    print(f"wrote {start.weights}, for {' x '.join(map(str, start.grid))} tokens")
    if start.plans_file != arguments.plans:
        print(f"wrote {start.plans_file}: those plans with this network in {arguments.configuration}")
    if start.reader != "NibabelIOWithReorient":
        print(
            f"note: {start.reader} does not bring images to the orientation that the weights were trained in (RAS); "
            '"overwrite_image_reader_writer": "NibabelIOWithReorient" in dataset.json before planning does'
        )
    print(
        f'\nnext:\n  eval "$(unetr_nnunet env)"\n  nnUNetv2_train {start.dataset_name} {arguments.configuration} 0 '
        f"-tr {BASE_NAME} -p {start.plans_file.stem} -pretrained_weights {quote(str(start.weights))}"
    )
    return 0


def _describe(released: "ReleasedUNETR") -> str:
    size = released.size
    return (
        f"UNETR, {released.in_channels} channel{'s' * (released.in_channels > 1)} in, {released.out_channels} out, "
        f"windows of {' x '.join(str(16 * length) for length in released.grid)} voxels (x, y, z), "
        f"tokens {size.width} wide, {size.heads} heads, feature size {size.feature_size}"
    )


def _predict_command(output: Path, folder: Path) -> str:
    """Return the stock command for the model: by data set where it lies in nnUNet_results, else by folder."""
    results = os.environ.get("nnUNet_results")
    dataset = re.fullmatch(r"Dataset(\d{3})_.+", output.resolve().name)
    if results and dataset and output.resolve().parent == Path(results).resolve():
        trainer, plans, configuration = folder.name.split("__")
        model = f"nnUNetv2_predict -d {int(dataset[1])} -c {configuration} -tr {trainer} -p {plans}"
    else:
        model = f"nnUNetv2_predict_from_modelfolder -m {quote(str(folder))}"
    return f"{model} -f all -i IMAGES -o MASKS"
