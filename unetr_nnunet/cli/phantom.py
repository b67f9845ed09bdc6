"""Write a synthetic abdominal CT data set in the layout of the BTCV download.

Each case is another patient with the 13 BTCV organs, drawn from the seed and the case number. Repeating an interrupted
run continues it. Labels of the test cases, which BTCV keeps to itself, are written to OUT/Testing_labels.

example:
  unetr_nnunet phantom phantom_demo --size demo --training 12 --testing 4 --zip
  unetr_nnunet convert btcv phantom_demo/RawData.zip
"""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to write to")
    parser.add_argument(
        "--size",
        choices=("demo", "half", "full"),
        default="half",
        help="demo: 112 x 112 pixels, 5 mm slices; half: 256 x 256; full: 512 x 512, as BTCV (default: half)",
    )
    parser.add_argument(
        "--training", type=int, default=30, metavar="N", help="labelled cases, at most 30 (default: 30)"
    )
    parser.add_argument("--testing", type=int, default=20, metavar="N", help="test cases, at most 20 (default: 20)")
    parser.add_argument("--seed", type=int, default=0, help="another seed: other patients (default: 0)")
    parser.add_argument(
        "--workers", type=int, metavar="N", help="processes (default: as many as cores and memory allow)"
    )
    parser.add_argument("--zip", action="store_true", help="write OUT/RawData.zip instead of the folder OUT/RawData")


def run(arguments: argparse.Namespace) -> int:
    """Write the data set."""
    from unetr_nnunet.phantom import write_phantom

    download = write_phantom(
        arguments.out,
        size=arguments.size,
        training=arguments.training,
        testing=arguments.testing,
        seed=arguments.seed,
        workers=arguments.workers,
        as_zip=arguments.zip,
        show_progress=True,
    )
    print(f"{download}: {arguments.training} training and {arguments.testing} test cases, size {arguments.size}")
    if arguments.testing:
        print(f"{arguments.out / 'Testing_labels'}: the labels of the test cases")
    return 0
