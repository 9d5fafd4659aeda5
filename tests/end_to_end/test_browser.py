"""A report in a real browser, wide and narrow, light and dark: nothing overflows, complains or asks the network."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from s2pecnet.reporting.html.runs import read_runs
from s2pecnet.reporting.report import write_report
from tests.helpers.browser import Page, browser, find_browser
from tests.helpers.run_samples import make_run

pytestmark = pytest.mark.slow

OVERFLOWING = """
  [...document.querySelectorAll('body *')]
    .filter(e => !e.closest('.scrolling, svg, .picture') && e.getBoundingClientRect().right > innerWidth + 1)
    .map(e => e.tagName + '.' + e.className)
"""


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    executable = find_browser()
    if executable is None:
        pytest.skip("no Chromium here (apt-get install chromium)")
    with browser(executable, tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory, corpus: Path) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("reports")
    long = "LA_a_name_without_a_single_space_that_is_longer_than_any_phone_is_wide_ep100_bs24"
    runs = [make_run(folder / name, corpus, 10 * place) for place, name in enumerate(("one", "two", long))]
    paths = {"one": folder / "one.html", "three": folder / "three.html"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("s2pecnet.reporting.html.runs.replicates_of", lambda trials: 20)
        write_report(read_runs(runs[2:], own=True), paths["one"])
        write_report(read_runs(runs), paths["three"])
    return paths


@pytest.mark.parametrize("name", ["one", "three"])
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True), (320, False)])
def test_nothing_overflows_or_complains(
    chromium: Page, reports: dict[str, Path], name: str, width: int, dark: bool
) -> None:
    chromium.complaints.clear()
    chromium.requests.clear()
    chromium.open(reports[name], width, dark=dark)
    chromium.run("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    assert chromium.run("innerWidth") == width
    assert chromium.run("document.documentElement.scrollWidth") <= width
    assert chromium.run(OVERFLOWING) == []
    assert chromium.complaints == []
    assert chromium.requests == [reports[name].resolve().as_uri()]
    ground = chromium.run("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
    assert (max(ground) < 60) if dark else (min(ground) > 200)


def test_clips_play(chromium: Page, reports: dict[str, Path]) -> None:
    chromium.open(reports["one"], 1280)
    played = chromium.run("""
      new Promise((resolve) => {
        const button = document.querySelector(".play"), audio = button.closest(".player").querySelector("audio");
        audio.addEventListener("ended", () => resolve([audio.currentTime, audio.duration, audio.error]));
        audio.addEventListener("error", () => resolve([0, 0, audio.error.message]));
        button.click();
      })
    """)
    assert played[2] is None
    assert played[0] == pytest.approx(played[1])
    assert played[1] > 0.1


def test_runs_are_switched_and_tables_sorted(chromium: Page, reports: dict[str, Path]) -> None:
    chromium.open(reports["three"], 1280)
    chromium.run("document.querySelector('.switches input').click()")
    shown = (
        "[...document.querySelectorAll('[data-run]')].filter(e => e.getClientRects().length).map(e => e.dataset.run)"
    )
    assert set(chromium.run(shown)) == {"1", "2"}
    chromium.run("document.querySelector('.switches input').click()")
    assert set(chromium.run(shown)) == {"0", "1", "2"}
    eers = """(() => {
      const table = document.querySelector("table.metrics");
      table.tHead.rows[0].cells[1].click();
      return [...table.tBodies[0].rows].map(row => Number(row.cells[1].dataset.value));
    })()"""
    rising = chromium.run(eers)
    assert rising == sorted(rising)
    assert chromium.run(eers) == rising[::-1]


def test_the_command_can_be_copied_or_selected(chromium: Page, reports: dict[str, Path]) -> None:
    chromium.open(reports["one"], 1280)
    told = chromium.run("""(async () => {
      const button = document.querySelector("pre.copy button");
      button.click();
      await new Promise(resolve => setTimeout(resolve, 300));
      return [button.textContent, getSelection().toString()];
    })()""")
    assert told[0] == "Copied" or told == ["Selected", "python main.py --config 'a b.conf'"]


def test_the_policy_stops_foreign_scripts(chromium: Page, reports: dict[str, Path], tmp_path: Path) -> None:
    document = reports["one"].read_text(encoding="utf-8")
    harmful = document.replace(
        "</main>", "<img src='http://127.0.0.1:9/x.png' onerror='window.bad=1'><script>window.bad=1</script></main>"
    )
    (tmp_path / "harmful.html").write_text(harmful, encoding="utf-8")
    chromium.complaints.clear()
    chromium.open(tmp_path / "harmful.html", 1280)
    assert chromium.run("window.bad") is None
    assert any("Content Security Policy" in complaint for complaint in chromium.complaints)
