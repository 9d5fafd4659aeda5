"""The pictures of README.md, made from a finished run: docs/images/report.png and docs/images/det.png.

    make figures                                                     after the run of the demo
    python -m tools.readme_figures exp_result/LA_demo_ep5_bs12_demo

The first is a screenshot of the top of the run's report.html, taken with a headless Chromium; where none is installed,
a line says so and the picture stays as it is. The second is the DET curve of each of the run's eval score files.
"""

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from s2pecnet.cli.command import make_parser, run_command
from s2pecnet.config.experiment import as_config
from s2pecnet.conventions import RUN_FILES
from s2pecnet.errors import InputError
from s2pecnet.extras import require
from s2pecnet.files import atomic_write
from s2pecnet.metrics.det import compute_eer
from s2pecnet.reporting.chart_data import det_limits, det_line, probit, sweep_of
from s2pecnet.reporting.plots import draw_det_axes
from s2pecnet.runs.folder import RunFolder
from s2pecnet.runs.provenance import RunRecord
from s2pecnet.score_files.cm_asv import CMScores, read_cm_scores
from tests.helpers.browser import browser, find_browser

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
# Of the window that is photographed, in CSS pixels; its height is up to the end of the card with the DET curve.
WIDTH, HEIGHT = 1200, 900
END_OF_DET = """
[...document.querySelectorAll("section")].filter(card => card.textContent.startsWith("Detection error trade-off"))
    .map(card => Math.ceil(card.getBoundingClientRect().bottom) + 8)[0] || null
"""
CURVES = {"eval": ("selected epoch", "#0072B2"), "eval_swa": ("averaged weights (SWA)", "#D55E00")}
EXAMPLES = """examples:
  python -m tools.readme_figures exp_result/LA_demo_ep5_bs12_demo
  python -m tools.readme_figures exp_result/LA_demo_ep5_bs12_demo --output /tmp/images
"""


def main(argv: Sequence[str] | None = None, prog: str = "python -m tools.readme_figures") -> int:
    """Run the command line, which help calls `prog`; returns the exit status."""
    arguments = build_parser(prog).parse_args(argv)
    results, report = arguments.run / RUN_FILES["results"], arguments.run / RUN_FILES["report"]
    for file in (results, report):
        if not file.is_file():
            raise InputError(f"{file}: no such file; expected the folder of a finished run")
    folder = RunFolder(arguments.run, as_config(RunRecord.read(results).config))
    # The selected epoch has scores; the averaged weights are not in every run.
    names = [name for name in CURVES if name == "eval" or folder.scores(name).is_file()]
    scores = {name: read_cm_scores(folder.scores(name)) for name in names}
    arguments.output.mkdir(parents=True, exist_ok=True)
    print(draw_det(arguments.output / "det.png", scores, f"eval scores of {folder.path.name}"))
    executable, picture = find_browser(), arguments.output / "report.png"
    if executable is None:
        print("no Chromium found (chromium, google-chrome): report.png is left as it is")
        return 0
    # The top of the report, as it looks in a light window.
    with tempfile.TemporaryDirectory() as profile, browser(executable, Path(profile)) as page:
        page.open(report, WIDTH, HEIGHT)
        page.open(report, WIDTH, page.run(END_OF_DET) or HEIGHT)
        page.run("document.documentElement.style.overflow = 'hidden'")  # no scroll bar
        page.screenshot(picture, whole=False)
    print(picture)
    return 0


def build_parser(prog: str = "python -m tools.readme_figures") -> argparse.ArgumentParser:
    """The command line."""
    parser = make_parser(prog, "Make the pictures of README.md from a finished run.", EXAMPLES)
    parser.add_argument("run", type=Path, metavar="RUN", help="the folder of a run")
    parser.add_argument("--output", type=Path, default=IMAGES, metavar="DIR", help="where they go (docs/images)")
    return parser


def draw_det(path: Path, scores: Mapping[str, CMScores], title: str) -> Path:
    """Draw the DET curve of each evaluation into one PNG of 750 x 750 pixels; returns its path.

    Raises:
        InputError: a class has no trials, or matplotlib is not installed (`MissingExtra`).
    """
    require("matplotlib", "report", "drawing plots")
    from matplotlib.figure import Figure

    sweeps = {name: sweep_of(cm) for name, cm in scores.items()}
    low, high = det_limits(list(sweeps.values()), max(max(cm.bonafide.size, cm.spoof.size) for cm in scores.values()))
    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.subplots()
    draw_det_axes(axes, low, high, title)
    for name, sweep in sweeps.items():
        label, color = CURVES[name]
        eer = compute_eer(scores[name].bonafide, scores[name].spoof)[0]
        axes.plot(*det_line(sweep, low), color=color, linewidth=1.8, label=f"{label}: EER {100 * eer:.2f} %")
        axes.plot(*2 * [probit(np.clip([eer], low, high))], "o", color=color, markersize=6, clip_on=False, zorder=3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper right", framealpha=1)
    with atomic_write(path, "wb") as stream:
        figure.savefig(stream, format="png", dpi=150)
    return path


if __name__ == "__main__":
    run_command(main)
