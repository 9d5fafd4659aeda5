"""Audio anti-spoofing: tell human speech (bona fide) from synthetic speech (spoof).

    from s2pecnet import load_scorer

    scorer = load_scorer("AASIST", "AASIST.pth")    # float32 (B, samples) at 16 kHz -> scores (B,)

Where things are:

    config/        what an experiment is: typed options out of a JSON file
    corpora/       trials of published corpora and of your own; download, check, demo corpus
    audio/         files to waveforms: decoding, resampling, crops
    features.py    LFCC and power spectrogram
    nn/            what systems are made of; the systems themselves stand in models/
    systems/       systems by name, their weights, their inputs, their scores
    data/          datasets, loaders, the cache of decoded audio
    training/      epochs, steps, checkpoints, several seeds
    scoring/       a split or any audio file to scores and verdicts
    score_files/   score files and tables to arrays
    metrics/       EER, min t-DCF, minDCF, Cllr, a-DCF; intervals, tests, calibration, fusion
    reporting/     texts, plots, the HTML report
    runs/          the folder of a run, and what it says about itself
    experiment.py  the story: train, evaluate, calibrate, several seeds
    export/, arena/, cli/
"""

__version__ = "0.1.0"

from collections.abc import Mapping
from os import PathLike
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from s2pecnet.config.experiment import Config
    from s2pecnet.systems.scorer import Scorer

__all__ = ["__version__", "load_scorer"]


def load_scorer(
    config: "Config | Mapping[str, Any] | str | PathLike[str]",
    weights: "str | PathLike[str] | None" = None,
    device: str = "auto",
) -> "Scorer":
    """A trained system as a callable: float32 waveforms (B, samples) at 16 kHz -> scores (B,), higher = bona fide.

    What `main.py --eval` scores crops with, or with `eval_crop` `windows` each window. A system that wants a feature of
    the complete utterance takes it as a second argument; without it, it computes the feature from the waveforms given.

    Args:
        config: a path, the name of a config that came with the framework, a dictionary or a `Config`.
        weights: a checkpoint; the config's `model_path` without it.
        device: "auto", "cpu", "cuda" or "cuda:N".

    Raises:
        InputError: no weights, or they do not fit.
    """
    # Imported here: `s2pecnet --help` needs no torch.
    from s2pecnet.systems.build import load_system

    return load_system(config, weights, device).scorer()
