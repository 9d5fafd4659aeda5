"""How often a training does what it needs to do once: look for its corpus, read protocols, score, evaluate."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from s2pecnet import experiment
from s2pecnet.cli import train
from s2pecnet.corpora.trials import TrialList
from s2pecnet.reporting.html import runs
from s2pecnet.scoring import splits
from s2pecnet.training import trainer
from tests.helpers.samples import TINIEST

pytestmark = pytest.mark.slow


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each function was called, by name; filled as a test goes."""
    counted: Counter[str] = Counter()

    def count(module: Any, name: str) -> None:
        real: Callable[..., Any] = getattr(module, name)

        def counting(*given: Any, **named: Any) -> Any:
            counted[name] += 1
            return real(*given, **named)

        monkeypatch.setattr(module, name, counting)

    count(experiment, "find_corpus")
    count(runs, "find_corpus")
    count(splits, "evaluate")
    count(runs, "evaluate")
    for module in (trainer, runs):
        count(module, "read_cm_scores")
    for module in (experiment, runs):
        count(module, "read_asv_scores")
        count(module, "bootstrap_intervals")
    real_trials = TrialList._trials

    def reading(self: TrialList, *given: Any) -> Any:
        counted[f"read {self.path.name}"] += 1
        return real_trials(self, *given)

    monkeypatch.setattr(TrialList, "_trials", reading)
    return counted


def test_a_training_of_two_epochs_does_everything_once(corpus: Path, tmp_path: Path, counts: Counter[str]) -> None:
    config = tmp_path / "tiniest.conf"
    config.write_text(json.dumps(TINIEST | {"database_path": str(corpus), "num_epochs": 2}))
    train.main(["--config", str(config), "--output_dir", str(tmp_path)])
    protocols = {name: times for name, times in counts.items() if name.startswith("read ASVspoof")}
    assert protocols == {f"read ASVspoof2019.LA.cm.{split}.txt": 1 for split in ("train.trn", "dev.trl", "eval.trl")}
    assert counts["find_corpus"] == 1
    assert counts["read_cm_scores"] == 0
    # Dev after each epoch, eval of the selected epoch, eval of SWA.
    assert counts["evaluate"] == 4
    assert counts["read_asv_scores"] == 2
    # Of dev, eval and SWA, for the record and the report alike.
    assert counts["bootstrap_intervals"] == 3
