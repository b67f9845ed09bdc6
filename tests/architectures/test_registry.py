import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

import unetr_nnunet
from tests.conftest import install_package
from unetr_nnunet.architectures import registry
from unetr_nnunet.architectures.presets import ARCHITECTURES

pytestmark = pytest.mark.usefixtures("forget_architectures")


def test_ours_are_found_with_their_version() -> None:
    ours = [one for one in registry.registrations() if one.is_unetr]
    assert {one.name for one in ours} == set(registry.unetr_names()) == set(ARCHITECTURES)
    assert {one.version for one in ours} == {version("unetr_nnunet")}
    for name in ARCHITECTURES:
        assert registry.load(name).name == name


def test_the_metadata_of_an_installation_is_read_where_there_is_no_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tomllib.loads(Path(unetr_nnunet.__file__).parents[1].joinpath("pyproject.toml").read_text())["project"]
    points = project["entry-points"]["unetr_nnunet.architectures"]
    beside = {one.name: one.target for one in registry.registrations() if one.distribution == "unetr_nnunet"}
    assert beside == points
    install_package(tmp_path / "site", monkeypatch, "unetr_nnunet", "7.0", points)
    monkeypatch.setattr(registry.unetr_nnunet, "__file__", str(tmp_path / "site" / "unetr_nnunet" / "__init__.py"))
    registry.registrations.cache_clear()
    assert {one.name: one.target for one in registry.registrations()} == points
    assert {one.version for one in registry.registrations()} == {"7.0"}


def test_another_packages_pyproject_beside_ours_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "other"\nversion = "1"\n')
    monkeypatch.setattr(registry.unetr_nnunet, "__file__", str(tmp_path / "unetr_nnunet" / "__init__.py"))
    assert registry._registered_in_checkout() is None


def test_names_are_listed_without_an_import(otherlab: None) -> None:
    code = """
import sys
from unetr_nnunet.architectures.registry import load, registrations
others = [str(one) for one in registrations() if one.distribution != "unetr_nnunet"]
print(others, "otherlab" in sys.modules, "torch" in sys.modules)
print(load("pyramid").summary, "torch" in sys.modules)
"""
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.splitlines() == [
        "['Line (otherlab 1.2)', 'Opaque (otherlab 1.2)', 'Pyramid (otherlab 1.2)'] False False",
        "two scales False",
    ]


def test_a_name_may_be_in_any_case_and_a_wrong_one_gets_the_nearest(otherlab: None) -> None:
    assert registry.find("PYRAMID").name == "Pyramid"
    with pytest.raises(ValueError, match=r"no architecture 'Piramid': do you mean Pyramid\? Install the package"):
        registry.find("Piramid")


@pytest.mark.parametrize(("theirs", "shown"), [("Pyramid", "Pyramid"), ("pyramid", "pyramid")])
def test_two_packages_with_one_name_are_refused_with_both_named(
    otherlab: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, theirs: str, shown: str
) -> None:
    install_package(tmp_path / "second", monkeypatch, "thirdlab", "0.1", {theirs: "thirdlab:NET"})
    registry.registrations.cache_clear()
    message = rf"registered by otherlab 1\.2, as Pyramid and thirdlab 0\.1, as {shown}: remove one of the packages"
    with pytest.raises(ValueError, match=message):
        registry.load("Pyramid")
    assert len(registry.problems()) == 1
    assert registry.load("Line").name == "Line", "the others can be had"


def test_a_name_of_ours_cannot_be_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_package(tmp_path / "second", monkeypatch, "thirdlab", "0.1", {"modified": "thirdlab:NET"})
    registry.registrations.cache_clear()
    with pytest.raises(ValueError, match=r"thirdlab 0\.1, as modified and unetr_nnunet .*, as Modified"):
        registry.find("Modified")


@pytest.mark.parametrize("name", ["my-net", "my__net", "Net.2"])
def test_a_name_that_no_trainer_could_have_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    install_package(tmp_path / "second", monkeypatch, "thirdlab", "0.1", {name: "thirdlab:NET"})
    registry.registrations.cache_clear()
    with pytest.raises(ValueError, match=rf"an architecture of thirdlab 0\.1 is called '{name}'"):
        registry.find(name)
    assert len(registry.problems()) == 1


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("notthere:NET", r"Net \(thirdlab 0\.1\) cannot be imported from notthere:NET \(ModuleNotFoundError"),
        ("math:NET", "cannot be imported from math:NET .AttributeError"),
        ("math:pi", r"math:pi is a float, not an unetr_nnunet\.architectures\.architecture\.Architecture"),
        ("unetr_nnunet.architectures.variants:ALL.FPN", "calls itself 'FPN'; .* must have the same name"),
    ],
)
def test_a_broken_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, message: str) -> None:
    install_package(tmp_path / "second", monkeypatch, "thirdlab", "0.1", {"Net": target})
    registry.registrations.cache_clear()
    with pytest.raises(ValueError, match=message) as caught:
        registry.load("Net")
    assert "\n" not in str(caught.value)


def test_another_version_or_package_is_said_and_a_missing_one_named(otherlab: None) -> None:
    assert registry.version_note("Pyramid", "otherlab", "1.2") is None
    note = registry.version_note("Pyramid", "otherlab", "1.1")
    assert note is not None
    assert "was of otherlab 1.1 when this was planned, and is of otherlab 1.2 now" in note
    with pytest.raises(
        ValueError, match=r"Gone comes from the package lostlab 3\.1, which is not installed: pip insta"
    ):
        registry.version_note("Gone", "lostlab", "3.1")
