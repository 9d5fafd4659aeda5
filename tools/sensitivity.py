"""How much a system's scores depend on level, band and codec: the table of docs/predict.md.

    python -m tools.sensitivity --config AASIST --database_path LA --clips 100

Each clip of the eval split is scored as it is and after each change; the table has the mean and the largest change of
its score, and the EER of all of them.
"""

import argparse
import io
from collections.abc import Callable

import numpy as np
import soundfile
from numpy.typing import NDArray

from s2pecnet.audio.decoding import check_waveform, read_audio
from s2pecnet.audio.resampling import resample
from s2pecnet.cli.command import run_command
from s2pecnet.conventions import SAMPLE_RATE
from s2pecnet.corpora.detect import find_split
from s2pecnet.corpora.trials import audio_path
from s2pecnet.metrics.det import compute_eer
from s2pecnet.systems.build import load_system

Samples = NDArray[np.float32]


def coded(container: str, subtype: str, rate: int = SAMPLE_RATE) -> Callable[[Samples], Samples]:
    """Encode at a rate, decode, and resample to 16 kHz."""

    def change(samples: Samples) -> Samples:
        stream = io.BytesIO()
        # Our resampler goes to 16 kHz alone; read at 16 k * 16 k / rate, a waveform comes out at `rate`.
        given = samples if rate == SAMPLE_RATE else resample(samples, SAMPLE_RATE * SAMPLE_RATE // rate)
        soundfile.write(stream, np.clip(given, -1, 1), rate, format=container, subtype=subtype)
        stream.seek(0)
        decoded, _ = soundfile.read(stream, dtype="float32")
        return check_waveform(decoded, rate, container)

    return change


CHANGES: dict[str, Callable[[Samples], Samples]] = {
    "as it is": lambda samples: samples,
    "6 dB softer": lambda samples: samples * np.float32(0.5),
    "20 dB softer": lambda samples: samples * np.float32(0.1),
    "6 dB louder, clipped at full scale": lambda samples: np.clip(samples * np.float32(2), -1, 1),
    "polarity reversed": lambda samples: -samples,
    "band of a telephone (8 kHz)": coded("WAV", "PCM_16", 8000),
    "mu-law at 8 kHz": coded("WAV", "ULAW", 8000),
    "GSM 6.10 at 8 kHz": coded("WAV", "GSM610", 8000),
    "MP3": coded("MP3", "MPEG_LAYER_III"),
    "Ogg Vorbis": coded("OGG", "VORBIS"),
    "Opus": coded("OGG", "OPUS"),
}


def main() -> None:
    """Print the table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="AASIST")
    parser.add_argument("--database_path", required=True)
    parser.add_argument("--clips", type=int, default=100, help="of each class")
    options = parser.parse_args()
    system = load_system(options.config, None, "cpu")
    scorer, split = system.scorer(), find_split(options.database_path, "LA", "eval")
    is_bonafide = split.trials.is_bonafide
    chosen = np.concatenate([np.flatnonzero(is_bonafide == key)[: options.clips] for key in (True, False)])
    clips = [read_audio(audio_path(split.audio, split.files, split.trials[int(index)].utterance)) for index in chosen]
    print("| change | mean change of the score | largest | EER % |\n| --- | --- | --- | --- |")
    before: NDArray[np.float64] | None = None
    for name, change in CHANGES.items():
        inputs = (system.inputs(change(clip)) for clip in clips)
        scores = np.array([float(scorer(*(one[None] for one in given))[0]) for given in inputs])
        before = scores if before is None else before
        moved = scores - before
        eer = compute_eer(scores[is_bonafide[chosen]], scores[~is_bonafide[chosen]])[0]
        print(f"| {name} | {moved.mean():+.2f} | {np.abs(moved).max():.2f} | {100 * eer:.1f} |", flush=True)


if __name__ == "__main__":
    run_command(main)
