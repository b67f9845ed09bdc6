"""Look at CTs with label maps over them, in three planes and 3-D, in a browser on this machine.

example:
  unetr_nnunet view nnUNet_raw/Dataset017_BTCV/imagesTs --masks predictions --labels nnUNet_raw/Dataset017_BTCV/labelsTs
  unetr_nnunet view ct.nii.gz --masks ct_mask.nii.gz

CT is a file (.nii, .nii.gz, .nrrd, .nhdr, .mha, .mhd), a folder of them, or a tree of DICOM series. Label maps, in the
same formats, belong to the CT of the same name, with or without _0000; BTCV's own names (img0061, label0061, BTCV_0061)
also by their number. Open the printed address; only those who have it can see the images, and only on this machine
(from another one: ssh -L PORT:127.0.0.1:PORT). Nothing is written, and nothing leaves the machine. Ctrl-C ends it.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unetr_nnunet.images.cases import Case
    from unetr_nnunet.viewer.scans import Scan


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("ct", type=Path, metavar="CT", help="file or folder of CTs")
    parser.add_argument(
        "--masks", type=Path, nargs="+", default=[], metavar="FOLDER", help="predictions; a file for a single CT"
    )
    parser.add_argument("--labels", type=Path, metavar="FOLDER", help="the truth; a file for a single CT")
    parser.add_argument("--port", type=int, default=0, help="of the server (default: any free one)")


def run(arguments: argparse.Namespace) -> int:
    """Serve until Ctrl-C."""
    from unetr_nnunet.images.cases import find_cases
    from unetr_nnunet.viewer.confinement import GivenPaths
    from unetr_nnunet.viewer.scans import ViewedScans, make_layers
    from unetr_nnunet.viewer.server import ViewerServer

    cases, notes = find_cases(arguments.ct, 1)
    scans = [_scan(case) for case in cases]
    layers = make_layers(arguments.masks, arguments.labels, [scan.name for scan in scans])
    for layer in layers:
        print(f"{layer.title}: {len(layer.masks)} of {len(scans)} CTs have a label map; labels: {layer.table.source}")
        if layer.unused:
            print(f"  without a CT: {', '.join(layer.unused[:5])}{', ...' if len(layer.unused) > 5 else ''}")
    print(*notes, sep="\n", end="\n" if notes else "")
    given = [arguments.ct, *arguments.masks, *([arguments.labels] if arguments.labels else [])]
    beside = [path.parent for path in given if path.is_file()]  # other slices of a series, a header's voxels
    with ViewerServer(ViewedScans(scans, layers, GivenPaths([*given, *beside])), arguments.port) as server:
        print(f"\n{server.url}\n\nOpen this address in a browser. Ctrl-C ends.", flush=True)
        server.serve_forever()
    return 0


def _scan(case: "Case") -> "Scan":
    from unetr_nnunet.images.read import read_case
    from unetr_nnunet.viewer.scans import Scan

    return Scan(case.name, case.channels[0], lambda: read_case(case)[0])
