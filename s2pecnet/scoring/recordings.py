"""Audio files in, their scores by window out: in the order of the paths, and as soon as they are there.

Windows of several files are scored together. While a batch is scored, threads read the files that come next. What is
held in memory is a few windows of a few files, however many files there are and however long they are.

Conventions: a score is the logit of bona fide, higher = bona fide; times are seconds from the start of the file.
"""

import itertools
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from s2pecnet.audio.decoding import BadAudio
from s2pecnet.audio.paths import Found
from s2pecnet.audio.streaming import Window, read_windows
from s2pecnet.conventions import SAMPLE_RATE
from s2pecnet.errors import InputError
from s2pecnet.parallel import gathered, processes
from s2pecnet.runtime import usable_cores
from s2pecnet.systems.inputs import Inputs
from s2pecnet.systems.scorer import Scorer

# What is read of a file before its turn comes.
WINDOWS_AHEAD = 8
# Files that are scored together where a table can be continued, and by one process where several share them.
GROUP = 256


class WindowScore(NamedTuple):
    """Where a window begins and ends, in seconds, and its score."""

    start: float
    end: float
    score: float


@dataclass(frozen=True)
class Prediction:
    """The scores of a file's windows, at least one.

    Attributes:
        second: the second decoder was needed.
    """

    path: str
    windows: tuple[WindowScore, ...]
    second: bool = False

    @property
    def score(self) -> float:
        """The mean of the windows' scores."""
        return math.fsum(window.score for window in self.windows) / len(self.windows)

    @property
    def lowest(self) -> float:
        """The least bona fide window's score."""
        return min(window.score for window in self.windows)

    def share_rejected(self, threshold: float | None) -> float | None:
        """Share of windows that a threshold rejects: those whose score is not above it; None without a threshold."""
        return (
            None if threshold is None else sum(window.score <= threshold for window in self.windows) / len(self.windows)
        )


class FileScorer:
    """Callable: paths to predictions. A file that cannot be used becomes the `InputError` that says why.

    A file is scored in windows of `inputs.samples` samples every `hop`, see `audio.streaming.read_windows`. A file
    shorter than a window is tiled as in training. A feature that the system takes as its second input is computed from
    each window's own samples, before they are tiled; in training it is computed from the complete utterance.

    Args:
        inputs: makes the model's inputs of a window.
        hop: samples from one window's start to the next one's, at most `inputs.samples`; None: half a window.
        batch: windows that are scored together.
        on_scored: gets how many windows have just been scored.
    """

    def __init__(
        self,
        scorer: Scorer,
        inputs: Inputs,
        hop: int | None = None,
        batch: int = 8,
        on_scored: Callable[[int], object] = lambda count: None,
    ):
        self.scorer, self.inputs, self.hop = scorer, inputs, hop or inputs.hop
        self.batch, self.on_scored = batch, on_scored

    def __call__(self, found: Iterable[Found]) -> Iterator[Prediction | InputError]:
        """Score files in their order; where the paths pause (None), what has come so far is finished first."""
        waiting: deque[_File] = deque()
        batch: list[_Inputs] = []
        for file in self._read_ahead(found):
            if file is None:
                self._score(batch)
            else:
                waiting.append(file)
                for inputs in file.inputs():
                    batch.append(inputs)
                    if len(batch) == self.batch:
                        self._score(batch)
                        yield from _finished(waiting)
            yield from _finished(waiting)
        self._score(batch)
        yield from _finished(waiting)

    def _read_ahead(self, found: Iterable[Found]) -> "Iterator[_File | None]":
        """Files with their first windows read, by threads, a bounded number ahead; None where the paths pause."""
        threads = min(8, usable_cores())
        ahead: deque[Future[_File]] = deque()
        with ThreadPoolExecutor(threads) as pool:
            for item in found:
                if item is not None:
                    ahead.append(pool.submit(_File, item, self._read))
                while ahead and (item is None or len(ahead) > 2 * threads):
                    yield ahead.popleft().result()
                if item is None:
                    yield None
            while ahead:
                yield ahead.popleft().result()

    def _read(self, path: str, on_second: Callable[[], object]) -> Iterator[tuple[Window, tuple[Tensor, ...]]]:
        """A file's windows, each with the model's inputs for it."""
        for window in read_windows(path, self.inputs.samples, self.hop, on_second):
            yield window, self.inputs(window.samples)

    def _score(self, batch: "list[_Inputs]") -> None:
        """Score the windows of a batch, hand the scores to their files, and empty it."""
        if not batch:
            return
        columns = zip(*(inputs.tensors for inputs in batch), strict=True)
        scores = self.scorer(*map(torch.stack, columns)).tolist()
        for (file, window, _), score in zip(batch, scores, strict=True):
            end = window.start + len(window.samples)
            file.scores.append(WindowScore(window.start / SAMPLE_RATE, end / SAMPLE_RATE, score))
        self.on_scored(len(batch))
        batch.clear()


def by_all(files: FileScorer, found: Iterator[Found]) -> Iterator[Prediction | InputError]:
    """What `files(found)` gives, where the files are shared by all processes that torchrun has started.

    The first process has the paths; the others give none. Each scores a group of files in turn, and all get all
    predictions, in the order of the paths.

    Raises:
        ProcessLost: another process has ended.
    """
    group = processes()
    if group.size == 1:
        yield from files(found)
        return
    groups = _groups(found)
    while work := gathered(list(itertools.islice(groups, group.size)))[0]:
        own = work[group.rank] if group.rank < len(work) else []
        for results in gathered(list(files(own))):
            yield from results


def _groups(found: Iterator[Found]) -> Iterator[list[Found]]:
    """The paths in lists: as far as a pause, and of GROUP paths at most."""
    paths: list[Found] = []
    for item in found:
        if item is not None:
            paths.append(item)
        if paths and (item is None or len(paths) == GROUP):
            yield paths
            paths = []
    if paths:
        yield paths


# Gives a file's windows with their inputs, and calls what it is given where the second decoder is needed.
_Read = Callable[[str, Callable[[], object]], Iterator[tuple[Window, tuple[Tensor, ...]]]]


class _Inputs(NamedTuple):
    """A window as the model takes it, and the file it is of."""

    file: "_File"
    window: Window
    tensors: tuple[Tensor, ...]


class _File:
    """A file on its way: its first windows read, the others to come, the scores so far."""

    def __init__(self, found: str | InputError, read: _Read):
        self.scores: list[WindowScore] = []
        self.taken, self.ended, self.second = 0, False, False
        self.path = found if isinstance(found, str) else ""
        self.error = found if isinstance(found, InputError) else None
        self._coming = self._until_error(read)
        self._first = deque(itertools.islice(self._coming, WINDOWS_AHEAD))

    def inputs(self) -> Iterator[_Inputs]:
        """All of the file's windows; where they break off, `error` says why."""
        while self._first:
            # Taken out, so that nothing holds on to windows that are scored.
            self.taken += 1
            yield self._first.popleft()
        for inputs in self._coming:
            self.taken += 1
            yield inputs
        self.ended = True

    def _until_error(self, read: _Read) -> Iterator[_Inputs]:
        if self.error is not None:
            return
        try:
            for window, tensors in read(self.path, self._needs_second):
                yield _Inputs(self, window, tensors)
        except BadAudio as error:
            self.error = error

    def _needs_second(self) -> None:
        self.second = True

    @property
    def is_finished(self) -> bool:
        """All windows read and scored."""
        return self.ended and len(self.scores) == self.taken

    def result(self) -> Prediction | InputError:
        """What there is to say of a finished file."""
        if self.error is None and not all(math.isfinite(window.score) for window in self.scores):
            return InputError(f"{self.path}: the score is not finite; the weights or the audio are broken")
        return self.error or Prediction(self.path, tuple(self.scores), self.second)


def _finished(waiting: deque[_File]) -> Iterator[Prediction | InputError]:
    """Results of the files at the head of the queue that are finished."""
    while waiting and waiting[0].is_finished:
        yield waiting.popleft().result()
