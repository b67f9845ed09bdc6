"""Bundle the chosen model as a folder and a zip file: weights, plans and post-processing, ready for other machines.

The zip file has nnU-Net's own layout, so that ``nnUNetv2_install_pretrained_model_from_zip`` installs it;
``unetr_nnunet predict -m`` takes the folder and the zip file, members and post-processing included.
"""

import shutil
import zipfile
from pathlib import Path

from unetr_nnunet.atomic import atomic_path, write_json
from unetr_nnunet.experiments.best_model import BestModel
from unetr_nnunet.inference.model_set import FILE
from unetr_nnunet.nnunet.folders import FINAL_CHECKPOINT
from unetr_nnunet.nnunet.label_statistics import FILE as LABEL_STATISTICS


def write_bundle(best: BestModel, results: Path, output: Path) -> Path:
    """Write the folder ``output`` and, beside its parent, the zip file.

    Args:
        best: what was chosen.
        results: the data set's folder in ``nnUNet_results``.
        output: ``.../best_model/DatasetNNN_NAME``; replaced.

    Returns:
        The zip file, ``.../best_model.zip``.
    """
    shutil.rmtree(output, ignore_errors=True)
    for member in best.members:
        for name in ("plans.json", "dataset.json", *(f"fold_{fold}/{FINAL_CHECKPOINT}" for fold in best.folds)):
            target = output / member / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(results / member / name, target)  # no link: nnU-Net writes checkpoints in place
        if (results / member / LABEL_STATISTICS).is_file():  # nnU-Net's own trainers leave none
            shutil.copy2(results / member / LABEL_STATISTICS, output / member / LABEL_STATISTICS)
    content = {
        "models": best.members,
        "folds": best.folds,
        "postprocessing": best.postprocessing,
        "dice": best.dice,
        "validation": str(best.validation.relative_to(results)),
        "nnunet_choice": best.nnunet_choice,
        "tried": [{"models": members, "dice": dice} for members, dice in best.scores.items()],
    }
    write_json(content, output / FILE)
    archive = output.parent.with_suffix(".zip")
    with atomic_path(archive) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as opened:
        for path in sorted(output.rglob("*")):
            opened.write(path, path.relative_to(output.parent))
    return archive
