"""The page in Debian's Chromium: what a reader sees and can do."""

import math
import re
from pathlib import Path

import numpy as np
import pytest

from tests.chromium import WatchedPage
from tests.evaluation.made_up import score
from tests.report.studies import SIZE, model, random_model, with_masks, write_log, write_plans, write_volume
from unetr_nnunet.evaluation.figures import CaseFigures
from unetr_nnunet.evaluation.model_results import ModelResults
from unetr_nnunet.report import page
from unetr_nnunet.report.page import SECTION_TITLES, breakable, write_report

MARKUP = "<img src=x onerror=alert(1)>"
SCRIPT = "</script><script>document.title='gone'</script>"


@pytest.fixture
def report(tmp_path: Path) -> Path:
    """Two models, one named with markup, with masks, CT, log and plan; the case's name is markup too."""
    case = "<b onclick=alert(1)>&_0001"
    models = [with_masks(name, tmp_path, (5, 14, 30), case, notes=(SCRIPT,)) for name in ("UNETR", MARKUP)]
    for place, each in enumerate(models):
        for number in range(2, 10):
            organs = {"spleen": score(0.5 + 0.04 * number), "liver": score(0.98 - 0.01 * place)}
            each.evaluation.cases[f"case_{number:04}"] = CaseFigures(organs)
    write_volume(tmp_path / "images" / f"{case}_0000.nii.gz", np.zeros(SIZE, np.int16))
    trainer = tmp_path / "nnUNetTrainerUNETR__nnUNetPlans__3d_small"
    write_plans(write_log(trainer))
    return write_report(
        models,
        tmp_path / "report.html",
        images=tmp_path / "images",
        training={"UNETR": trainer},
        command=["unetr_nnunet", "report", SCRIPT],
    )


def test_a_reader_finds_every_section_and_no_harm(report: Path, watched_page: WatchedPage) -> None:
    browser = watched_page.page
    dialogs: list[str] = []
    browser.on("dialog", lambda dialog: dialogs.append(dialog.message))
    browser.set_viewport_size({"width": 1366, "height": 768})
    browser.goto(report.as_uri())
    for identity, title in SECTION_TITLES.items():
        section = browser.locator(f"section#{identity}")
        assert section.locator("h2").inner_text() == title
        assert "could not be made" not in section.inner_text()
    for seen in ("h1", ".answer", ".lead svg", ".facts"):
        box = browser.locator(seen).first.bounding_box()
        assert box is not None
        assert box["y"] + box["height"] <= 768, f"{seen} is on the first screen"
    facts = browser.locator(".facts").first.inner_text()
    assert "2 models" in facts
    assert "every label on the original grid" in facts
    assert browser.title() == "Dataset917_Blobs: 2 models compared"
    assert browser.locator("img, b[onclick]").count() == 0
    assert MARKUP in browser.locator("#models").inner_text()
    assert SCRIPT in browser.locator("#notes").inner_text()
    browser.locator("summary").first.click()
    assert dialogs == []
    assert watched_page.console_errors == []
    assert watched_page.requests == [report.as_uri()], "nothing is fetched"
    width = browser.evaluate("document.documentElement.scrollWidth")
    assert width <= 1366, "no sideways scrolling"


def test_tables_sort_by_mouse_and_keyboard(report: Path, watched_page: WatchedPage) -> None:
    browser = watched_page.page
    browser.goto(report.as_uri())
    table = browser.locator("table.heat").first
    table.scroll_into_view_if_needed()
    spleen = table.locator("th", has_text="spleen")

    def shown() -> list[float]:
        return [float(text) for text in table.locator("tbody tr td:nth-child(3)").all_inner_texts()]

    spleen.locator("button").click()
    assert spleen.get_attribute("aria-sort") == "ascending"
    assert shown() == sorted(shown())
    spleen.locator("button").press("Enter")
    assert spleen.get_attribute("aria-sort") == "descending"
    assert shown() == sorted(shown(), reverse=True)
    table.locator("th", has_text="case").locator("button").click()
    names = table.locator("tbody th").all_inner_texts()
    assert names[1:] == sorted(names[1:])
    assert spleen.get_attribute("aria-sort") is None


def test_a_case_links_to_its_pictures(report: Path, watched_page: WatchedPage) -> None:
    browser = watched_page.page
    browser.goto(report.as_uri())
    link = browser.locator("table.heat").first.get_by_role("link").first
    target = browser.locator(str(link.get_attribute("href")))
    name = link.inner_text()
    link.click()
    browser.wait_for_function(
        "element => { const y = element.getBoundingClientRect().y; return y > -5 && y < innerHeight; }",
        arg=target.element_handle(),
    )
    assert target.locator("h3").inner_text().startswith(name)
    assert browser.locator("article svg.slice").count() >= 6
    sizes = browser.evaluate(
        "[...document.querySelectorAll('svg.slice use')].map(each => each.getBoundingClientRect().width)"
    )
    assert min(sizes) > 50, "the shared CT is drawn in every panel"


def test_without_script_the_page_is_all_there(report: Path, watched_page: WatchedPage) -> None:
    browser = watched_page.page.context.browser
    assert browser is not None
    context = browser.new_context(java_script_enabled=False)
    plain = context.new_page()
    plain.goto(report.as_uri())
    assert plain.locator("table.heat tbody tr").count() == 18
    assert plain.locator("th button").count() == 0
    context.close()


def test_on_paper_everything_is_open(report: Path, watched_page: WatchedPage) -> None:
    browser = watched_page.page
    browser.goto(report.as_uri())
    assert browser.locator("details.print:not([open])").count() > 0
    browser.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert browser.locator("details.print:not([open])").count() == 0
    browser.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert browser.locator("details.print:not([open])").count() > 0
    assert browser.pdf().startswith(b"%PDF")


def test_on_paper_the_panels_of_a_slice_stand_in_one_row(report: Path, watched_page: WatchedPage) -> None:
    browser = watched_page.page
    browser.set_viewport_size({"width": 794, "height": 1123})  # A4, upright
    browser.goto(report.as_uri())
    browser.emulate_media(media="print")
    columns = browser.eval_on_selector(
        ".panels", "each => getComputedStyle(each).gridTemplateColumns.split(' ').length"
    )
    assert columns == 3, "the truth and two models"


def test_thirty_cases_of_five_models_stay_small(tmp_path: Path) -> None:
    models = [random_model(f"model {number}", 30, organs=13, seed=number) for number in range(5)]
    written = write_report(models, tmp_path / "report.html")
    text = written.read_text()
    assert len(text) < 1_500_000
    assert text.count("<") < 20_000, "elements are what makes a page slow"


BAD: dict[str, list[ModelResults]] = {
    "one case": [random_model("A", 1), random_model("B", 1, seed=1)],
    "one model, one case": [random_model("A", 1)],
    "no shared case": [model("A", {"liver": {"a": 0.5}}), model("B", {"liver": {"b": 0.5}})],
    "organ absent everywhere": [model("A", {"liver": {"a": 0.5}, "aorta": {"a": float("nan")}})],
    "nothing has a value": [model(name, {"liver": {"a": float("nan")}}) for name in "AB"],
    "a model without cases": [
        random_model("A", 6),
        model("B", {"spleen": {}, "liver": {}}, refused={"case_0001": "cut"}),
    ],
    "labels outside the table": [model("A", {"lesion": {"a": 0.5}}, label_ids={})],
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_still_gives_a_page(name: str, tmp_path: Path) -> None:
    text = write_report(BAD[name], tmp_path / "report.html").read_text()
    assert "could not be made" not in text
    assert "nan" not in text.replace("nanmean", "")
    assert ">None<" not in text


def test_notes_name_files_as_they_are_called_on_the_disk(tmp_path: Path) -> None:
    names = ("nnUNetTrainerUNETR_FPN", "nnUNetTrainerUNETR_CNNStem", "nnUNetTrainer")
    note = f"/results/{names[0]}__nnUNetPlans__3d_fullres/fold_0/metrics.json is damaged"
    models = [random_model(name, 6, seed=place, notes=(note,)[place:]) for place, name in enumerate(names)]
    text = write_report(models, tmp_path / "report.html").read_text()
    assert f"<li>UNETR_FPN: {note}</li>" in text


def test_a_thousand_cases(tmp_path: Path) -> None:
    models = [random_model(name, 1000, seed=place) for place, name in enumerate("AB")]
    text = write_report(models, tmp_path / "report.html").read_text()
    assert "100 worst of 1000 cases" in text
    assert len(text) < 200_000


def test_a_broken_section_costs_that_section_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ValueError("a disk gone <b>")

    monkeypatch.setattr(page, "difference_section", broken)
    text = write_report([random_model("A", 6)], tmp_path / "report.html").read_text()
    assert "This section could not be made. ValueError: a disk gone &lt;b&gt;" in text
    assert 'id="cases"' in text


def test_nothing_is_left_where_nothing_can_be_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no model to report on"):
        write_report([], tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []


def test_the_page_lets_its_own_script_run_and_no_other() -> None:
    assets = page._assets()
    assert "default-src 'none'" in assets["policy"]
    assert "unsafe-inline" not in assets["policy"].split("script-src")[1]


def test_lines_break_after_underscores_and_markup_is_escaped() -> None:
    assert breakable("a_<b>") == "a_<wbr>&lt;b&gt;"


def test_what_a_case_does_not_have_is_a_dash(tmp_path: Path) -> None:
    models = [model("A", {"spleen": {"one": 0.5, "two": math.nan}, "liver": {"one": 0.9, "two": 0.8}})]
    text = write_report(models, tmp_path / "report.html").read_text(encoding="utf-8")
    assert re.search(r'<td data-sort=""[^>]*>\u2013</td>', text)
    assert ">-<" not in text


@pytest.mark.parametrize(
    ("cases", "shown"), [(1, r"\+0\.\d{3}, 1 case<"), (12, r"\+0\.\d{3} \(\+0\.\d{3} to \+0\.\d{3}\), 12 cases<")]
)
def test_a_difference_names_its_interval_where_there_is_one(cases: int, shown: str, tmp_path: Path) -> None:
    models = [random_model("A", cases, mean=0.7), random_model("B", cases, mean=0.8, seed=1)]
    text = write_report(models, tmp_path / "report.html").read_text(encoding="utf-8")
    assert re.search(rf"<b>B . A</b>: {shown}", text)
