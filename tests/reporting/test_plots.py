"""The plots are a complete PNG for any scores that can be evaluated, and absent where drawing fails."""

from pathlib import Path

import numpy as np
import pytest

from s2pecnet.errors import InputError
from s2pecnet.metrics.countermeasure import evaluate
from s2pecnet.reporting import plots
from s2pecnet.score_files.cm_asv import CMScores, read_asv_scores

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_END = b"IEND\xaeB`\x82"


def scores_of(bonafide: list[float], spoof: list[float], attacks: list[str]) -> CMScores:
    n = len(bonafide) + len(spoof)
    return CMScores(
        utterances=np.array([f"u{number}" for number in range(n)]),
        attacks=np.array(["-"] * len(bonafide) + attacks),
        is_bonafide=np.arange(n) < len(bonafide),
        scores=np.array(bonafide + spoof),
    )


def many_trials() -> CMScores:
    generator = np.random.default_rng(0)
    attacks = [f"A{number % 60:02}" for number in range(3000)]
    return scores_of(generator.normal(2, 1, 500).tolist(), generator.normal(0, 1, 3000).tolist(), attacks)


@pytest.mark.parametrize(
    "cm",
    [
        many_trials(),
        scores_of([1.0, 2.0], [0.0, 0.5], ["A07", "A08"]),
        scores_of([0.0], [1.0], ["A07"]),
        scores_of([1e30], [1e30], ["A$07"]),
        scores_of([0.0, 0.0], [0.0], ["A07"]),
        scores_of([3e38], [-3e38], ["A07"]),
    ],
    ids=["many attacks", "separable", "inverted", "one huge value", "all tied", "extremes"],
)
def test_any_scores_give_a_complete_png(cm: CMScores, tmp_path: Path) -> None:
    target = tmp_path / "new" / "figures.png"
    assert plots.save_figures(target, cm, evaluate(cm), "50 % of $x_ {\\LA}") == target
    content = target.read_bytes()
    assert content.startswith(PNG_SIGNATURE)
    assert content.endswith(PNG_END)
    assert [path.name for path in target.parent.iterdir()] == ["figures.png"]


def test_failure_leaves_the_old_plot(tmp_path: Path) -> None:
    cm = scores_of([1.0, 2.0], [0.0], ["A07"])
    target = tmp_path / "figures.png"
    target.write_bytes(b"old")
    broken = scores_of([1.0, np.nan], [0.0], ["A07"])
    with pytest.raises(InputError, match="nan"):
        plots.save_figures(target, broken, evaluate(cm), "title")
    assert target.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("with_asv", [True, False])
def test_tensorboard_gets_each_plot(tmp_path: Path, asv_file: Path, with_asv: bool) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils.tensorboard import SummaryWriter

    cm, asv = many_trials(), read_asv_scores(asv_file) if with_asv else None
    with SummaryWriter(str(tmp_path)) as board:
        for step in (0, 3):
            plots.board_figures(board, "dev", step, cm, evaluate(cm, asv), asv)
    written = EventAccumulator(str(tmp_path))
    written.Reload()
    plots_of = ["DET/dev", "attacks/dev", "scores/dev", *(["tDCF/dev"] if with_asv else [])]
    assert sorted(written.Tags()["images"]) == sorted(plots_of)
    pictures = []
    for plot in plots_of:
        first, second = written.Images(plot)
        assert (first.step, second.step) == (0, 3)
        assert (first.width, first.height) == (600, 500)
        assert first.encoded_image_string == second.encoded_image_string
        pictures.append(first.encoded_image_string)
    assert len(set(pictures)) == len(plots_of)
