"""The worst errors of an evaluation, and what they sound and look like.

The worst are the bona fide trials with the lowest scores and the spoofs with the highest. A clip is the first four
seconds of a trial (64,600 samples, what most systems score) as FLAC; its spectrogram is a PNG: short-time power in
decibels below the loudest, 0 to 8 kHz from bottom to top, Hann windows of 32 ms.
"""

import io
import struct
import zlib
from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from s2pecnet.conventions import CROP, SAMPLE_RATE
from s2pecnet.corpora.trials import Split, audio_path
from s2pecnet.errors import describe_error
from s2pecnet.files import is_below
from s2pecnet.score_files.cm_asv import CMScores

CLIP_SAMPLES = CROP
_WINDOW, _SHORTEST_HOP, _COLUMNS = 512, 64, 320
_FEW = 3  # trials of a class that are shown even if they are not errors
_RANGE_DB = 70.0
_LEVELS = 40  # as many shades as an eye tells apart in a small picture; fewer shades, smaller files
_COLOURS = [(5, 4, 18), (45, 17, 90), (104, 28, 129), (160, 48, 126), (214, 76, 103), (247, 128, 92), (253, 195, 140),
            (252, 249, 200)]  # fmt: skip


@dataclass(frozen=True)
class Trial:
    """A trial among the worst; `wrong`: it lies on the wrong side of the EER threshold."""

    utterance: str
    attack: str
    is_bonafide: bool
    score: float
    wrong: bool


@dataclass(frozen=True)
class Clip:
    """The audio and the spectrogram of a trial, as data: URLs.

    Attributes:
        seconds: length of the clip.
        seen: the share of it that the system scored.
    """

    audio: str
    picture: str
    seconds: float
    seen: float


def worst_trials(cm: CMScores, threshold: float, most: int) -> tuple[list[Trial], list[Trial]]:
    """The bona fide trials with the lowest scores, and the spoofed ones with the highest, worst first.

    Those on the wrong side of the threshold, at most `most` of a class; where there are fewer than three, the closest
    others too.
    """
    order = np.lexsort((cm.utterances, cm.scores))
    is_bonafide = cm.is_bonafide[order]
    worst = []
    for indices in (order[is_bonafide][:most], order[~is_bonafide][::-1][:most]):
        of_class = cm.take(indices)
        wrong = (of_class.scores > threshold) != of_class.is_bonafide
        columns = of_class.utterances, of_class.attacks, of_class.is_bonafide, of_class.scores, wrong
        trials = [Trial(*values) for values in zip(*(column.tolist() for column in columns), strict=True)]
        worst.append(trials[: max(int(wrong.sum()), _FEW)])
    return worst[0], worst[1]


class ClipMaker:
    """Makes clips until they reach the size that a report may have.

    Attributes:
        most: errors of a class that a run may show.
    """

    def __init__(self, characters: int, most: int):
        self.left, self.most = characters, most

    def make(self, split: Split, utterance: str, samples_scored: int, within: Path | None = None) -> Clip | str:
        """The clip of an utterance of a split, or why there is none.

        Args:
            within: the folder that its file must lie in; None: any.
        """
        # Decoding comes with torch, which a report without audio does not wait for.
        import soundfile

        from s2pecnet.audio.decoding import read_crop

        try:
            split, utterance = split.find(utterance)
            path = audio_path(split.audio, split.files, utterance) if split.store is None else split.audio
            if not is_below(path, within):
                return f"left out: its file does not lie below {within}"
            source = path if split.store is None else split.store.audio(split.row_of(utterance))
            samples = read_crop(source, CLIP_SAMPLES)
        except OSError as error:
            return describe_error(error)
        except ValueError as error:
            # Bad audio, or a name that is no path.
            return str(error)
        flac = io.BytesIO()
        soundfile.write(flac, samples, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
        audio = f"data:audio/flac;base64,{b64encode(flac.getvalue()).decode()}"
        picture = f"data:image/png;base64,{b64encode(spectrogram_png(samples)).decode()}"
        if len(audio) + len(picture) > self.left:
            return "left out: the clips of a report have a limited size"
        self.left -= len(audio) + len(picture)
        return Clip(audio, picture, len(samples) / SAMPLE_RATE, min(1.0, samples_scored / len(samples)))


def spectrogram_png(samples: NDArray[np.float32]) -> bytes:
    """A PNG of the spectrogram of samples (n,) at 16 kHz, n >= 1: 128 pixels high and at most 320 wide."""
    hop = max(_SHORTEST_HOP, -(-len(samples) // _COLUMNS))
    padded = np.pad(samples.astype(np.float64), (_WINDOW // 2, _WINDOW // 2 + hop))
    frames = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[: len(samples) : hop]
    power = np.abs(np.fft.rfft(frames * np.hanning(_WINDOW), axis=1)[:, :-1]) ** 2
    power = power.reshape(len(frames), -1, 2).mean(axis=2).T[::-1]
    decibels = 10 * np.log10(np.maximum(power, 1e-20) / max(power.max(), 1e-20))
    shade = (1 + decibels / _RANGE_DB).clip(0, 1) * (_LEVELS - 1)
    positions = np.linspace(0, len(_COLOURS) - 1, _LEVELS)
    channels = [np.interp(positions, range(len(_COLOURS)), channel) for channel in zip(*_COLOURS, strict=True)]
    # Pixels are indices into the palette; a row begins with the number of its filter, 0 for none.
    height, width = shade.shape
    rows = np.pad(shade.round().astype(np.uint8), ((0, 0), (1, 0)))
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
        (b"PLTE", np.column_stack(channels).round().astype(np.uint8).tobytes()),
        (b"IDAT", zlib.compress(rows.tobytes(), 9)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
