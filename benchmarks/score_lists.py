"""Lists of scores: from score files to figures, and the memory that scoring a long list takes."""

import os
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.loading import write_noise
from benchmarks.timing import peak_resident, time_steps
from benchmarks.workload import PROCESSOR, Workload
from s2pecnet.corpora.detect import find_split
from s2pecnet.corpora.trials import Split
from s2pecnet.data.loaders import make_loader
from s2pecnet.files import atomic_write
from s2pecnet.metrics import countermeasure
from s2pecnet.metrics.countermeasure import Metrics
from s2pecnet.runtime import keep_freed_memory
from s2pecnet.score_files import cm_asv
from s2pecnet.score_files.cm_asv import ASVScores, CMScores
from s2pecnet.scoring.splits import produce_evaluation_file
from s2pecnet.systems.inputs import Inputs
from s2pecnet.systems.scorer import Scorer

SEED = 2019
# Trials of ASVspoof2019 LA eval: 71,237 of the countermeasure, 102,579 of the speaker verification.
BONAFIDE, ATTACKS, PER_ATTACK = 7355, [f"A{number:02d}" for number in range(7, 20)], 4914
TARGETS, NONTARGETS = 5370, 33327
# A file system allows so many names of one file, and more.
LINKS = 1000
SHORT_S = 0.1
SHORT_SAMPLES = 1600


def measure_evaluation(workload: Workload) -> dict[str, float]:
    """Seconds from two score files of LA's size to all figures (median, after one that does not count)."""
    cm, asv = find_or_make_scores(Path(workload.folder))
    evaluate = EVALUATIONS[workload.way]
    timed = time_steps(lambda: evaluate(cm, asv), workload.repeats, torch.device("cpu"))
    return {"seconds": statistics.median(timed.seconds), PROCESSOR: timed.processor_s}


def evaluate_ours(cm: Path, asv: Path) -> Metrics:
    """As evaluation.py does it."""
    return countermeasure.evaluate(cm_asv.read_cm_scores(cm), cm_asv.read_asv_scores(asv))


def evaluate_plain(cm: Path, asv: Path) -> Metrics:
    """The files read by numpy as text, column by column; then the same figures."""
    table = np.genfromtxt(cm, dtype=str)
    scores = CMScores(table[:, 0], table[:, 1], table[:, 2] == "bonafide", table[:, 3].astype(float))
    asv_table = np.genfromtxt(asv, dtype=str)
    keys, asv_scores = asv_table[:, 1], asv_table[:, 2].astype(float)
    return countermeasure.evaluate(
        scores, ASVScores(*(asv_scores[keys == key] for key in ("target", "nontarget", "spoof")))
    )


EVALUATIONS: dict[str, Callable[[Path, Path], Metrics]] = {"ours": evaluate_ours, "plain": evaluate_plain}


def find_or_make_scores(folder: Path) -> tuple[Path, Path]:
    """Score files of the countermeasure and of the ASV with as many trials as LA eval, drawn from Gaussians."""
    cm, asv = folder / "cm.txt", folder / "asv.txt"
    if asv.is_file():
        return cm, asv
    rng = np.random.default_rng(SEED)
    kinds = [("-", "bonafide", 4.0)] * BONAFIDE + [(attack, "spoof", 0.0) for attack in ATTACKS] * PER_ATTACK
    _write_shuffled(cm, kinds, rng, "LA_E_{number:07d} ")
    spoofs = [(attack, "spoof", 2.0) for attack in ATTACKS] * PER_ATTACK
    kinds = [("-", "target", 4.0)] * TARGETS + [("-", "nontarget", 0.0)] * NONTARGETS + spoofs
    _write_shuffled(asv, kinds, rng, "")
    return cm, asv


def _write_shuffled(path: Path, kinds: list[tuple[str, str, float]], rng: np.random.Generator, name: str) -> None:
    order, noise = rng.permutation(len(kinds)), rng.normal(size=len(kinds))
    with atomic_write(path) as stream:
        for number, place in enumerate(order):
            source, key, centre = kinds[place]
            stream.write(f"{name.format(number=number)}{source} {key} {centre + 1.5 * noise[number]:.9g}\n")


def measure_memory(workload: Workload) -> dict[str, float]:
    """Peak GiB of a process that scores a list of `trials` trials from files, with a system that costs nothing."""
    keep_freed_memory()
    split = find_or_make_list(Path(workload.folder), workload.trials)
    loader = make_loader(split, batch_size=workload.batch, seed=0, inputs=Inputs(SHORT_SAMPLES), num_workers=0)
    scorer = Scorer(Loudness(), torch.device("cpu"))
    scorer.chunk = None
    produce_evaluation_file(loader, scorer, scorer.device, Path(workload.folder) / "scores.txt", split.protocol)
    return {"peak_GiB": peak_resident() / 2**30}


class Loudness(nn.Module):
    """The cheapest system: louder is more bona fide."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, samples) to (x, logits (B, 2))."""
        power = x.square().mean(dim=1)
        return x, torch.stack([-power, power], dim=1)


def find_or_make_list(folder: Path, trials: int) -> Split:
    """An eval split of `trials` short files, which are names of a few files; its protocol is written last."""
    split = find_split(folder / f"list-{trials}", "LA", "eval")
    if split.protocol.is_file():
        return split
    flac = split.audio / "flac"
    flac.mkdir(parents=True, exist_ok=True)
    with atomic_write(split.protocol) as stream:
        for name in _linked_files(flac, trials):
            stream.write(f"LA_0001 {name} - - bonafide\n")
    return split


def _linked_files(folder: Path, count: int) -> Iterator[str]:
    rng = np.random.default_rng(SEED)
    for number in range(count):
        name = f"LA_E_{number:07d}"
        path = folder / f"{name}.flac"
        if number % LINKS == 0:
            source = path
            write_noise(source, SHORT_S, rng)
        else:
            os.link(source, path)
        yield name
