"""The Speech Anti-Spoofing Arena: our systems under its harness, `speech-spoof-bench`, and submissions to it.

    speech-spoof-bench run --model-module s2pecnet.arena:Adapter ...

`s2pecnet arena scores | submission | check` makes its files from ours, see `submission`.

`Adapter` takes its config and weights from the environment, for the harness gives it no arguments:

    S2PEC_CONFIG   config of the system            S2PEC_DEVICE   auto (the default), cpu, cuda or cuda:N
    S2PEC_WEIGHTS  its checkpoint                  S2PEC_BATCH    utterances of a batch (default 16)

Conventions: audio is float32, mono, in [-1, 1]; a score is the logit of bona fide, what `main.py --eval` writes for the
same clip: higher = bona fide. What `--eval` refuses (see `audio.decoding`) raises `BadAudio`; the
harness then scores the batch one by one and counts the clip as skipped.

The harness' class is expected as `speech_spoof_bench.model.AntiSpoofingModel` (version 0.3.0), or in the package
itself. Without the harness `Adapter` is an ordinary class that can be used by itself.
"""

import importlib
import importlib.metadata
import inspect
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from s2pecnet.conventions import SAMPLE_RATE
from s2pecnet.errors import InputError

# numpy and torch are imported by the methods that need them: the commands of this package start without.
if TYPE_CHECKING:
    import numpy as np

    from s2pecnet.systems.inputs import Inputs
    from s2pecnet.systems.scorer import Scorer

DEFAULT_BATCH = 16
HARNESS = "speech-spoof-bench"
HARNESS_MODULES = ("speech_spoof_bench.model", "speech_spoof_bench")


def _harness_model() -> tuple[type, str]:
    """The harness' AntiSpoofingModel and "", or `object` and why it cannot be imported ("": it is not installed)."""
    for name in HARNESS_MODULES:
        try:
            model = getattr(importlib.import_module(name), "AntiSpoofingModel", None)
        except ModuleNotFoundError as error:
            if error.name not in HARNESS_MODULES:
                return object, f"{name} cannot be imported: {error}; install what {HARNESS} needs"
            continue
        if inspect.isclass(model):
            return model, ""
    return object, ""


_HARNESS_MODEL, _BROKEN_HARNESS = _harness_model()


class Adapter(_HARNESS_MODEL):  # type: ignore[misc, valid-type]
    """A system of ours as a model of the harness: what its AntiSpoofingModel asks for.

    Attributes:
        name: the config's, once there is an instance.
        expected_sample_rate: Hz; other rates are resampled as audio files are.
        batch_size: utterances that the harness is to give at a time; any number works.

    Raises:
        InputError: S2PEC_CONFIG or S2PEC_WEIGHTS is missing or empty, or S2PEC_BATCH is no number >= 1.
    """

    name = "S2pecNet"
    expected_sample_rate = SAMPLE_RATE
    batch_size = DEFAULT_BATCH

    def __init__(self) -> None:
        if _BROKEN_HARNESS:
            raise InputError(_BROKEN_HARNESS)
        super().__init__()
        missing = [name for name in ("S2PEC_CONFIG", "S2PEC_WEIGHTS") if not os.environ.get(name)]
        if missing:
            raise InputError(
                f"{' and '.join(missing)} not set in the environment; the harness passes no arguments, so begin its "
                "command with S2PEC_CONFIG=config/AASIST.conf S2PEC_WEIGHTS=AASIST.pth"
            )
        batch = os.environ.get("S2PEC_BATCH") or str(DEFAULT_BATCH)
        if not (batch.isascii() and batch.isdigit() and int(batch) >= 1):
            raise InputError(f"S2PEC_BATCH: got {batch!r}, expected a whole number >= 1")
        config, device = os.environ["S2PEC_CONFIG"], os.environ.get("S2PEC_DEVICE") or "auto"
        self._system = config, os.environ["S2PEC_WEIGHTS"], device
        self.name, self.batch_size = Path(config).stem, int(batch)
        self._inputs: Inputs | None = None
        self._scorer: Scorer | None = None
        self._in_windows = False

    def load(self) -> None:
        """Build the system and load its weights.

        Raises:
            InputError: the config or the weights cannot be used, or there is no such device.
        """
        from s2pecnet.systems.build import load_system

        system = load_system(*self._system)
        self._inputs, self._scorer = system.inputs, system.scorer()
        self._in_windows = system.config.eval_crop == "windows"

    def score_batch(self, audios: "Sequence[np.ndarray]", srs: Sequence[int]) -> list[float]:
        """Scores of float32 (samples,) arrays of any lengths, in their order: logits, higher = bona fide.

        Args:
            srs: sample rate of each, Hz.

        Raises:
            InputError: called before `load`, or a score is not finite.
            BadAudio: a clip cannot be used, see the top of this module; the message says which one and why.
        """
        import numpy as np

        from s2pecnet.audio.decoding import check_waveform

        if self._inputs is None or self._scorer is None:
            raise InputError("score_batch: no system is loaded; call load() first")
        waveforms = [
            check_waveform(np.asarray(audio), int(rate), f"clip {number} of the batch")
            for number, (audio, rate) in enumerate(zip(audios, srs, strict=True), start=1)
        ]
        if not waveforms:
            return []
        scores: list[float]
        if self._in_windows:
            from s2pecnet.data.datasets import joined_windows
            from s2pecnet.systems.scorer import mean_logits

            items = [(*self._inputs.windows(waveform), str(number)) for number, waveform in enumerate(waveforms)]
            *inputs, names = joined_windows(items)
            scores = mean_logits(self._scorer, inputs, names, self.batch_size)[1][:, 1].tolist()
        else:
            scores = self._scorer(*self._inputs.batch(waveforms)).tolist()
        broken = [number for number, score in enumerate(scores, start=1) if not math.isfinite(score)]
        if broken:
            raise InputError(f"clip {broken[0]} of the batch: its score is not finite; the weights are broken")
        return scores

    def unload(self) -> None:
        """Free the system; `load` brings it back."""
        import torch

        self._inputs = self._scorer = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
