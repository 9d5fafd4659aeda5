"""Scoring streams: what it holds does not grow with the list; what it writes stands in the protocol's order."""

import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from s2pecnet.errors import InputError
from s2pecnet.scoring.splits import produce_evaluation_file
from s2pecnet.systems.scorer import Scorer

CPU = torch.device("cpu")
SAMPLES = 4


def write_protocol(path: Path, trials: int) -> Path:
    lines = (f"LA_0001 LA_E_{number:07d} - {'- bonafide' if number % 9 else 'A07 spoof'}\n" for number in range(trials))
    path.write_text("".join(lines))
    return path


class FirstSample(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, torch.stack([-x[:, 0], x[:, 0]], dim=1)


class SyntheticLoader:
    """Batches of waveforms whose first sample is the trial's number; notes what is held when the first is asked for."""

    def __init__(self, trials: int, batch: int = 50):
        self.dataset, self.batch = range(trials), batch

    def __iter__(self) -> Iterator[tuple[Tensor, list[str]]]:
        if tracemalloc.is_tracing():
            tracemalloc.reset_peak()
        for begin in range(0, len(self.dataset), self.batch):
            numbers = self.dataset[begin : begin + self.batch]
            waveforms = torch.tensor(numbers, dtype=torch.float32).unsqueeze(1).expand(-1, SAMPLES)
            yield waveforms, [f"LA_E_{number:07d}" for number in numbers]


def score(trials: int, folder: Path) -> Path:
    loader: Any = SyntheticLoader(trials)
    protocol = write_protocol(folder / f"{trials}.txt", trials)
    produce_evaluation_file(loader, Scorer(FirstSample(), CPU), CPU, folder / f"scores_{trials}.txt", protocol)
    return folder / f"scores_{trials}.txt"


def peak_while_scoring(trials: int, folder: Path) -> int:
    """Bytes held at the most from the first batch to the last line."""
    tracemalloc.start()
    try:
        score(trials, folder)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_long_list_is_not_held_while_it_is_scored(tmp_path: Path) -> None:
    few, many = 2_000, 20_000
    peak_while_scoring(50, tmp_path)  # what is made once and kept, imports for example, counts for neither
    growth = peak_while_scoring(many, tmp_path) - peak_while_scoring(few, tmp_path)
    # Columns and scores, and for a moment a copy; Python's own objects would be some 200.
    assert growth < 90 * (many - few)


def test_lines_are_those_of_the_protocol_with_their_scores(tmp_path: Path) -> None:
    lines = score(123, tmp_path).read_text().splitlines()
    assert len(lines) == 123
    assert lines[0] == "LA_E_0000000 A07 spoof 0"
    assert lines[122] == "LA_E_0000122 - bonafide 122"


@pytest.mark.parametrize(
    ("trials", "message"), [(30, "LA_E_0000030' was scored"), (70, ":51: 'LA_E_0000050' was not scored")]
)
def test_a_list_of_another_length_is_refused_and_leaves_no_file(tmp_path: Path, trials: int, message: str) -> None:
    protocol = write_protocol(tmp_path / "protocol.txt", trials)
    loader: Any = SyntheticLoader(50)
    with pytest.raises(InputError, match=message):
        produce_evaluation_file(loader, FirstSample(), CPU, tmp_path / "scores.txt", protocol)
    assert [path.name for path in tmp_path.iterdir()] == ["protocol.txt"]
