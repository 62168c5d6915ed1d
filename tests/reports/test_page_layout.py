"""The pages in a browser: nothing wider than the screen, no empty picture, under 5 MB.

Chromium is asked for the widths by a script that the test adds to a copy of the page. Where no
Chromium is installed these tests are skipped by name.
"""

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from reports import ReportArrays, Result, write_report
from reports.schema import CompressorRow

pytestmark = [pytest.mark.end_to_end, pytest.mark.slow]

BROWSER = next(
    (
        path
        for name in ("chromium", "chromium-browser", "google-chrome")
        if (path := shutil.which(name))
    ),
    None,
)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")

# Written into the title after everything is laid out; --dump-dom shows it.
PROBE = """
<script>
window.addEventListener("load", () => {
  const page = document.documentElement;
  const wide = [...document.querySelectorAll("body *")].filter((item) =>
    item.getBoundingClientRect().right > page.clientWidth + 1 && !item.closest(".wide")
  ).map((item) => item.tagName + "." + item.className);
  const empty = [...document.images].filter((image) => image.naturalWidth === 0).length;
  document.title = `PROBE ${page.scrollWidth} ${page.clientWidth} ${empty} ${wide.length} ` +
    `${document.images.length} ${wide.slice(0, 3).join(" ")}`;
});
</script>
"""
HOSTILE = "<img src=x onerror=alert(1)>\"&' $\\frac{a}{b}$ Ünïcödé 信道 " + "x" * 90


def probe(page: Path, width: int) -> tuple[int, int, int, int, int, str]:
    """scrollWidth, clientWidth, empty pictures, elements that stick out, pictures, their names."""
    if BROWSER is None:
        raise RuntimeError("tests of the layout need a browser")
    copy = page.with_name(f"probe-{width}.html")
    text = page.read_text(encoding="utf-8").replace(' loading="lazy"', "")
    copy.write_text(text + PROBE, encoding="utf-8")
    frame = page.with_name(f"frame-{width}.html")  # a window is never narrower than 500 px
    frame.write_text(
        f'<iframe src="{copy.name}" style="width:{width}px;height:900px;border:0" '
        'onload="document.title = this.contentDocument.title"></iframe>'
    )
    done = subprocess.run(
        [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files",
         f"--user-data-dir={page.parent / 'profile'}", "--window-size=1400,1000",
         "--dump-dom", frame.as_uri()],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = re.search(r"PROBE (\d+) (\d+) (\d+) (\d+) (\d+) ?([^<]*)", done.stdout)
    assert found is not None, done.stdout[:2000] + done.stderr[-2000:]
    numbers = [int(part) for part in found.groups()[:5]]
    return numbers[0], numbers[1], numbers[2], numbers[3], numbers[4], found[6]


def renamed(result: Result, name: str) -> Result:
    first, *others = result.compressors
    data = replace(result.data, path=f"{name}.h5", description=name)
    return replace(result, compressors=(replace(first, name=name), *others), data=data)


def many(result: Result, count: int) -> Result:
    rows: list[CompressorRow] = [
        replace(result.compressors[k % 3], name=f"compressor number {k}") for k in range(count)
    ]
    return replace(result, compressors=tuple(rows))


def checked(page: Path, *, pictures: bool) -> None:
    assert page.stat().st_size < 5_000_000
    for width in (400, 1280):
        scroll, client, empty, out, images, names = probe(page, width)
        assert client <= width
        assert scroll <= client, f"{scroll - client} px too wide at {width}: {names}"
        assert out == 0, f"at {width}: {names}"
        assert empty == 0
        assert (images > 0) == pictures


@needs_browser
def test_report_fits_phone_and_desk(
    fake_result: Result, fake_arrays: ReportArrays, tmp_path: Path
) -> None:
    checked(write_report(fake_result, fake_arrays, tmp_path), pictures=True)


@needs_browser
def test_hostile_names_break_nothing(fake_result: Result, tmp_path: Path) -> None:
    page = write_report(renamed(fake_result, HOSTILE), None, tmp_path)
    assert "<img src=x" not in page.read_text(encoding="utf-8")
    checked(page, pictures=True)


@needs_browser
def test_twenty_compressors_fit(fake_result: Result, tmp_path: Path) -> None:
    checked(write_report(many(fake_result, 20), None, tmp_path), pictures=True)


@needs_browser
def test_no_compressor_fits(fake_result: Result, tmp_path: Path) -> None:
    empty = replace(fake_result, compressors=(), realism=(), tau=())
    checked(write_report(empty, None, tmp_path), pictures=False)
