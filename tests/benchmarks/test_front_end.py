"""The benchmark of front ends compares two ways that score the same, at a size that takes seconds."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import front_end, runs, timing, worker
from benchmarks.runs import PROCESSOR, Workload
from s2pecnet.errors import InputError


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> list[Workload]:
    """Measure in this process, with a ceiling that takes no time; the workloads that were run."""
    done: list[Workload] = []

    def run(workload: Workload) -> dict[str, Any]:
        done.append(workload)
        figures: dict[str, Any] = json.loads(json.dumps(worker.run(workload)))
        return figures

    monkeypatch.setattr(runs, "run", run)
    monkeypatch.setattr(front_end, "run", run)
    monkeypatch.setattr(timing, "SIDE_CPU", 32)
    return done


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_both_ways_score_the_same_and_are_measured_in_turn(
    in_process: list[Workload], precision: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--system", "SSL_tiny", "--batch", "2", "--repeats", "1", "--rounds", "2", "--precision", precision]
    assert front_end.main([*arguments, "--json", str(tmp_path / "figures.json")]) == 0
    measured = [each.way for each in in_process if each.mode == "measure"]
    assert measured == ["ours", "transformers", "transformers", "ours"]
    (row,) = json.loads((tmp_path / "figures.json").read_text())["rows"]
    assert row["largest_difference"] <= front_end.TOLERANCES[precision]
    assert row["gflop_per_utterance"] > 0
    assert row["share_of_ceiling"] > 0
    assert set(row["ways"]) == {"ours", "transformers"}
    assert all(figures[PROCESSOR] > 0 for figures in row["runs"]["transformers"])
    heading, line = capsys.readouterr().out.splitlines()[-2:]
    assert "transformers utt/s" in heading
    assert line.startswith("SSL_tiny ")


def test_ways_that_score_otherwise_are_an_error(in_process: list[Workload], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(front_end.TOLERANCES, "fp32", -1.0)
    with pytest.raises(InputError, match=r"SSL_tiny: the scores of both ways lie .* apart, more than -1"):
        front_end.main(["--system", "SSL_tiny", "--batch", "1"])
    assert {each.mode for each in in_process} == {"scores"}


def test_the_full_size_is_counted_in_the_configuration_that_is_known() -> None:
    (setting,) = front_end.settings_of("XLSR_AASIST")
    key, _, value = setting.partition("=")
    assert key == "model_config.front_end.model"
    assert json.loads(value)["num_hidden_layers"] == 24


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--system", "AASIST"], r"--system AASIST: it has no front end"),
        (["--system", "XLSR_SLS"], r'--system XLSR_SLS: expected "layers" last'),
        (["--system", "nothing"], r"nothing"),
        (["--batch", "1", "0"], r"--batch 0: expected numbers >= 1"),
        (["--rounds", "0"], r"--rounds 0: expected a number >= 1"),
    ],
)
def test_what_cannot_be_measured(arguments: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        front_end.main(arguments)
