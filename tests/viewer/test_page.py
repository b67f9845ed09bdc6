"""The page in a browser: what is seen, not what the code says."""

import threading
from collections.abc import Iterator

import numpy as np
import pytest
import SimpleITK as sitk

from tests.chromium import WatchedPage
from unetr_nnunet.organs import ORGANS
from unetr_nnunet.viewer.confinement import GivenPaths
from unetr_nnunet.viewer.scans import Scan, ViewedScans, make_layers
from unetr_nnunet.viewer.server import ViewerServer

pytestmark = pytest.mark.slow

SIZE = (30, 24, 20)  # x, y, z; LPS: i to the patient's left, j to the back, k to the head
SPACING_MM = (2.0, 3.0, 4.0)
LIVER, SPLEEN = (7, 8, 13), (22, 15, 6)  # voxels (i, j, k) in the middle of each
MARKUP = "<img src=x onerror=alert(1)>"
PIXEL = """([x, y]) => {
  const { planes } = window.viewer;
  planes.drawScene();
  const { width, height } = planes.canvas;
  const copy = Object.assign(document.createElement("canvas"), { width, height });
  const pen = copy.getContext("2d");
  pen.drawImage(planes.canvas, 0, 0);
  return [...pen.getImageData(x, y, 1, 1).data].slice(0, 3);
}"""
TILE = "plane => [...window.viewer.planes.screenSlices.find(each => each.axCorSag === plane).leftTopWidthHeight]"
SOLID = """() => {
  const { solid } = window.viewer;
  solid.drawScene();
  const copy = Object.assign(document.createElement("canvas"), { width: 200, height: 200 });
  const pen = copy.getContext("2d");
  pen.drawImage(solid.canvas, 0, 0, 200, 200);
  const data = pen.getImageData(0, 0, 200, 200).data;
  let seen = 0;
  for (let i = 0; i < data.length; i += 4) seen += data[i] > 60 && data[i] > 2 * data[i + 2];
  return seen;
}"""


def in_the_middle(voxel: tuple[int, int, int], label: int, voxels: np.ndarray) -> None:
    i, j, k = voxel
    voxels[k - 2 : k + 3, j - 2 : j + 3, i - 2 : i + 3] = label


def volume(voxels: np.ndarray) -> sitk.Image:
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing(SPACING_MM)
    image.SetOrigin((-20.0, 10.0, 100.0))
    return image


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ViewerServer]:
    folder = tmp_path_factory.mktemp("study")
    truth, prediction = (np.zeros(SIZE[::-1], np.uint8) for _ in range(2))
    for voxels in (truth, prediction):
        in_the_middle(LIVER, 6, voxels)
    in_the_middle(SPLEEN, 1, truth)
    for name, voxels in (("labels", truth), ("model", prediction)):
        (folder / name).mkdir()
        sitk.WriteImage(volume(voxels), str(folder / name / "case_1.nii.gz"))
    (folder / "model" / f"{MARKUP}.nii.gz").write_bytes(b"damaged")
    ct = volume(np.full(SIZE[::-1], -160, np.int16))
    names = ["case_1", MARKUP]
    layers = make_layers([folder / "model"], folder / "labels", names)
    study = ViewedScans([Scan(name, (), lambda: ct) for name in names], layers, GivenPaths([folder]))
    with ViewerServer(study) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def wait(watched: WatchedPage) -> None:
    watched.page.wait_for_selector("main[aria-busy=false]", timeout=120_000)


def pixel(watched: WatchedPage, plane: int, voxel: tuple[int, int, int]) -> tuple[int, ...]:
    """Return the colour of a voxel in a plane, where radiologists look for it.

    Patient's right on the left of the axial (0) and coronal (1) plane, front on the left of the sagittal (2); the head
    up, the front up in the axial plane.
    """
    across, down = ((0, 1), (0, 2), (1, 2))[plane]
    left, top, width, height = watched.page.evaluate(TILE, plane)
    share = (voxel[down] + 0.5) / SIZE[down]
    x = left + width * (voxel[across] + 0.5) / SIZE[across]
    y = top + height * (share if plane == 0 else 1 - share)
    return tuple(watched.page.evaluate(PIXEL, [int(x), int(y)]))


def near(colour: tuple[int, ...], expected: tuple[int, ...]) -> bool:
    return all(abs(one - other) < 25 for one, other in zip(colour, expected, strict=True))


def go_to(watched: WatchedPage, server: ViewerServer, voxel: tuple[int, int, int]) -> None:
    """Open the link to a voxel, as NIfTI's world counts: x to the right, y to the front."""
    x, y, z = volume(np.zeros(SIZE[::-1])).TransformIndexToPhysicalPoint(voxel)
    watched.page.goto(f"{server.url}#case=case_1&at={-x},{-y},{z}")
    wait(watched)


def test_the_mask_of_a_known_voxel_is_shown(server: ViewerServer, watched_page: WatchedPage) -> None:
    page, liver = watched_page.page, ORGANS[5].colour
    go_to(watched_page, server, (LIVER[0] + 1, LIVER[1] - 1, LIVER[2] + 1))  # beside the crosshair is LIVER
    readout = page.inner_text("#readout")
    assert readout == "R 4.0  P 31.0  S 156.0 mm   -160 HU   truth: liver   model: liver"
    page.evaluate("document.getElementById('opacity').value = 100; draw()")
    wait(watched_page)
    for plane in range(3):
        assert near(pixel(watched_page, plane, LIVER), liver), plane
        mirrored = tuple(SIZE[axis] - 1 - LIVER[axis] for axis in range(3))
        assert near(pixel(watched_page, plane, mirrored), (0, 0, 0)), plane
    assert page.evaluate(SOLID) > 200

    page.uncheck("#fill-1")
    wait(watched_page)
    assert near(pixel(watched_page, 0, LIVER), (0, 0, 0))
    page.keyboard.press("2")  # the second label map's fill
    wait(watched_page)
    assert near(pixel(watched_page, 0, LIVER), liver)
    page.get_by_label("show liver").uncheck()
    wait(watched_page)
    assert near(pixel(watched_page, 0, LIVER), (0, 0, 0))
    assert page.evaluate(SOLID) == 0
    page.click("#all")
    wait(watched_page)
    page.fill("#level", "-560")  # the CT, at -160 HU, turns white
    assert near(pixel(watched_page, 0, (1, 1, LIVER[2])), (255, 255, 255))

    page.get_by_role("button", name="spleen").click()
    assert "truth: spleen   model: -" in page.inner_text("#readout")
    page.fill("#level", "40")
    assert near(pixel(watched_page, 0, (SPLEEN[0] + 1, SPLEEN[1] + 1, SPLEEN[2])), (0, 0, 0))  # an outline only
    page.check("#fill-0")
    wait(watched_page)
    assert near(pixel(watched_page, 0, (SPLEEN[0] + 1, SPLEEN[1] + 1, SPLEEN[2])), ORGANS[0].colour)
    assert watched_page.console_errors == []
    assert all(request.startswith(server.url) for request in watched_page.requests)


def test_names_with_markup_and_damaged_masks_do_no_harm(server: ViewerServer, watched_page: WatchedPage) -> None:
    page = watched_page.page
    page.goto(server.url)
    wait(watched_page)
    assert page.locator("#cases option").all_inner_texts() == ["case_1", MARKUP]
    page.keyboard.press("n")
    page.wait_for_selector("#message:has-text('not a single-file NIfTI-1 image')", timeout=120_000)
    wait(watched_page)
    assert page.locator("tr.absent").inner_text().startswith("truth (none for this case)")
    assert page.locator("img").count() == 0
    assert "-160 HU" in page.inner_text("#readout")
    page.fill("#filter", "case")
    assert page.locator("#cases option").all_inner_texts() == ["case_1"]
    assert page.inner_text("#count") == "1 of 2"
    page.select_option("#cases", "case_1")
    page.wait_for_selector("#organs button:has-text('liver')", timeout=120_000)
    assert not page.is_visible("#message")
    unexpected = [line for line in watched_page.console_errors if "422" not in line]
    assert unexpected == []
