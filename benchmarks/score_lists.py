"""Lists of scores: from score files to figures, and the memory that scoring a long list takes."""

import statistics
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.loading import find_or_make_split
from benchmarks.runs import PROCESSOR, Workload
from benchmarks.timing import peak_memory, time_steps
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
    timed = time_steps(lambda: evaluate(workload.way, cm, asv), workload.repeats, torch.device("cpu"))
    return {"seconds": statistics.median(timed.seconds), PROCESSOR: timed.processor_s}


def evaluate(way: str, cm: Path, asv: Path) -> Metrics:
    """All figures, as evaluation.py makes them; `plain`: from files read by numpy as text, column by column."""
    if way == "ours":
        return countermeasure.evaluate(cm_asv.read_cm_scores(cm), cm_asv.read_asv_scores(asv))
    table = np.genfromtxt(cm, dtype=str)
    scores = CMScores(table[:, 0], table[:, 1], table[:, 2] == "bonafide", table[:, 3].astype(float))
    _, keys, values = np.genfromtxt(asv, dtype=str).T
    by_class = [values[keys == key].astype(float) for key in cm_asv.ASV_KEYS]
    return countermeasure.evaluate(scores, ASVScores(*by_class))


def find_or_make_scores(folder: Path) -> tuple[Path, Path]:
    """Score files of the countermeasure and of the ASV with as many trials as LA eval, drawn from Gaussians."""
    cm, asv = folder / "cm.txt", folder / "asv.txt"
    if asv.is_file():
        return cm, asv
    rng = np.random.default_rng(SEED)
    kinds = [("-", "bonafide", 4.0)] * BONAFIDE + [(attack, "spoof", 0.0) for attack in ATTACKS] * PER_ATTACK
    spoofs = [(attack, "spoof", 2.0) for attack in ATTACKS] * PER_ATTACK
    asv_kinds = [("-", "target", 4.0)] * TARGETS + [("-", "nontarget", 0.0)] * NONTARGETS + spoofs
    for path, of_file, name in ((cm, kinds, "LA_E_{:07d} "), (asv, asv_kinds, "")):
        order, noise = rng.permutation(len(of_file)), rng.normal(size=len(of_file))
        with atomic_write(path) as stream:
            for number, place in enumerate(order):
                source, key, centre = of_file[place]
                stream.write(f"{name.format(number)}{source} {key} {centre + 1.5 * noise[number]:.9g}\n")
    return cm, asv


def measure_memory(workload: Workload) -> dict[str, float]:
    """Peak GiB of a process that scores a list of `trials` trials from files, with a system that costs nothing."""
    keep_freed_memory()
    split = find_or_make_split(Path(workload.folder), "eval", workload.trials, SHORT_S, SHORT_S, LINKS)
    loader = make_loader(split, batch_size=workload.batch, seed=0, inputs=Inputs(SHORT_SAMPLES), num_workers=0)
    scorer = Scorer(Loudness(), torch.device("cpu"))
    scorer.chunk = None
    produce_evaluation_file(loader, scorer, scorer.device, Path(workload.folder) / "scores.txt", split.protocol)
    return {"peak_GiB": peak_memory(scorer.device)}


class Loudness(nn.Module):
    """The cheapest system: louder is more bona fide."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, samples) to (x, logits (B, 2))."""
        power = x.square().mean(dim=1)
        return x, torch.stack([-power, power], dim=1)
