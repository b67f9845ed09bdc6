"""The rules of CONTRIBUTING.md that no linter knows."""

import ast
from pathlib import Path

import pytest

import unetr_nnunet

PACKAGE = Path(unetr_nnunet.__file__).parent
TESTS = Path(__file__).parent
MODULES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")
MOST_LINES = 300
IMAGE_LIBRARIES = ("SimpleITK", "nibabel", "pydicom", "highdicom")
READS_OR_WRITES = {
    *("ReadImage", "WriteImage", "ImageFileReader", "ImageFileWriter", "ImageSeriesReader", "ImageSeriesWriter"),
    *("dcmread", "dcmwrite", "imread", "segread"),
    *("load", "save", "from_filename", "to_filename", "from_file_map", "from_fileobj"),  # nibabel's
}


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_a_module_has_its_test_and_is_short(module: Path) -> None:
    assert (TESTS / module.parent / f"test_{module.name}").is_file()
    assert len((PACKAGE / module).read_text(encoding="utf-8").splitlines()) <= MOST_LINES


def image_file_calls(source: str) -> set[str]:
    """Return what a module calls of the image libraries to read or write files."""
    tree = ast.parse(source)
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {(alias.asname or alias.name).split(".")[0]: alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    libraries = {name for name, origin in names.items() if origin.split(".")[0] in IMAGE_LIBRARIES}
    found = {names[name] for name in libraries if names[name].split(".")[-1] in READS_OR_WRITES}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in READS_OR_WRITES:
            owner = node.value
            while isinstance(owner, ast.Attribute):
                owner = owner.value
            if isinstance(owner, ast.Name) and owner.id in libraries:
                found.add(f"{names[owner.id]}.{node.attr}")
    return found


@pytest.mark.parametrize(
    ("source", "calls"),
    [
        ("import SimpleITK as sitk\nsitk.ReadImage('a')", {"SimpleITK.ReadImage"}),
        ("import nibabel\nnibabel.Nifti1Image.from_filename('a')", {"nibabel.from_filename"}),
        ("from pydicom import dcmread\n", {"pydicom.dcmread"}),
        ("import json, SimpleITK as sitk\njson.load(f)\nsitk.Image(3, 3, 3, sitk.sitkUInt8)", set()),
    ],
)
def test_reading_is_recognised(source: str, calls: set[str]) -> None:
    assert image_file_calls(source) == calls


@pytest.mark.parametrize("module", [m for m in MODULES if m.parts[0] != "images"], ids=str)
def test_only_images_reads_and_writes_images(module: Path) -> None:
    assert not image_file_calls((PACKAGE / module).read_text(encoding="utf-8"))
