"""Headers of a split's audio, read before training, and its decoded samples, kept for the epochs after the first.

    headers-<key>.npy   size, time, length, rate and channels of each file, and which decoder reads it: they are read
                        once, then only of the files whose size or time has changed
    audio-<key>.bin     a record a file, then all samples one after the other, mapped into memory by every loader
                        process; int16 where that holds the waveform exactly, as for 16-bit FLAC, else float32

The key is made of the audio's folder, the protocol's content, and the version of what reads audio. A cache is used only
where size and time of every file are those that it was made from. It is written atomically; two runs that start at once
make it once.
"""

import contextlib
import hashlib
import logging
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from filelock import FileLock
from tqdm import tqdm

from s2pecnet.audio.crops import Start, cropped, first_sample
from s2pecnet.audio.decoding import BadAudio, inspect, read_audio
from s2pecnet.corpora.trials import Trials
from s2pecnet.data.utterances import AudioFolder
from s2pecnet.errors import InputError
from s2pecnet.files import atomic_write

# What the cache takes a file to be unchanged by, and what its header says; size -1 where there is no file.
HEADER = np.dtype(
    [("size", "<i8"), ("time", "<i8"), ("frames", "<i8"), ("rate", "<i4"), ("channels", "<i2"), ("second", "<i2")]
)
RECORD = np.dtype([("size", "<i8"), ("time", "<i8"), ("offset", "<i8"), ("samples", "<i8"), ("kind", "<i8")])
KINDS = (np.dtype("<i2"), np.dtype("<f4"))
FULL_SCALE = 32768.0
AT_ONCE = 512
# Another one where the same file gives other samples than before, or is refused: 2 is the second decoder.
VERSION = 2

log = logging.getLogger(__name__)

Result = TypeVar("Result")


def read_headers(audio: AudioFolder, trials: Trials, cache_dir: Path | None = None) -> np.ndarray:
    """Headers (n,) of a split's files, of type HEADER; `frames` is 0 where a file cannot be opened or is not complete.

    Args:
        cache_dir: where they are kept; None: they are read again.
    """
    kept = None if cache_dir is None else cache_dir / f"headers-{_key(audio, trials)}.npy"
    headers = np.zeros(len(trials), dtype=HEADER)
    for file, status in enumerate(_in_parallel(_stat, audio, "files")):
        headers["size"][file], headers["time"][file] = status
    same = np.zeros(len(headers), dtype=bool)
    if kept is not None:
        with contextlib.suppress(OSError, ValueError, EOFError):
            before: np.ndarray = np.load(kept, mmap_mode="r")
            if before.dtype == HEADER and before.shape == headers.shape:
                same = (before["size"] == headers["size"]) & (before["time"] == headers["time"])
                np.copyto(headers, before, where=same)
    changed = np.flatnonzero(~same & (headers["size"] > 0))
    for index, found in zip(changed, _in_parallel(_header, audio, "headers", changed), strict=True):
        for column, value in zip(("frames", "rate", "channels", "second"), found, strict=True):
            headers[column][index] = value
    if kept is not None and not same.all():
        with atomic_write(kept, "wb") as stream:
            np.save(stream, headers)
    if headers["second"].any():
        count = int(np.count_nonzero(headers["second"]))
        log.info("%s: %d of %d files are read by the second decoder (PyAV)", trials.path, count, len(headers))
    return headers


def check_headers(audio: AudioFolder, trials: Trials, headers: np.ndarray, tolerated: float = 0.0) -> None:
    """Make sure that the files of a protocol can be opened, before anything long starts.

    Args:
        tolerated: share of files that may be missing or unreadable.

    Raises:
        InputError: naming the folder, and the first such files with their protocol lines.
    """
    bad = np.flatnonzero(headers["frames"] <= 0)
    if len(bad) <= tolerated * len(trials):
        return
    if not audio.folder.is_dir():
        raise InputError(f"{audio.folder}: no such folder, though {trials.path} names {len(trials)} files in it")
    missing = bad[headers["size"][bad] < 0]
    shown, what = (missing, "are missing") if len(missing) else (bad, "cannot be used")
    named = []
    for index, line in zip(shown[:3].tolist(), trials.line[shown[:3]], strict=True):
        reason = "" if len(missing) else f": {_reason(audio.path(index))}"
        named.append(f"{audio.path(index).name}{f' (line {line})' if line else ''}{reason}")
    first = (", " if len(missing) else "; ").join(named)
    raise InputError(
        f"{audio.folder}: {len(shown)} of {len(trials)} files that {trials.path} names {what}: "
        f"{first}{', ...' if len(shown) > 3 else ''}"
    )


class AudioCache(AudioFolder):
    """The utterances of an `AudioFolder`, decoded once and mapped into memory; gives the same samples to the bit.

    It is made where there is none that fits `headers`. Files that cannot be used are left out of it; they raise
    `BadAudio` when they are asked for, as without a cache.

    Raises:
        OSError: the cache cannot be written, the disk is full for example.
    """

    def __init__(self, audio: AudioFolder, trials: Trials, headers: np.ndarray, cache_dir: Path):
        super().__init__(audio.base_dir, audio.utterances, audio.files, audio.trials)
        self.cache = cache_dir / f"audio-{_key(audio, trials)}.bin"
        self._opened: tuple[np.ndarray, np.ndarray] | None = None
        if self._fits(headers):
            return
        cache_dir.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{self.cache}.lock"):
            # Another run may have made it while this one waited.
            if not self._fits(headers):
                self._make(headers)

    def complete(self, index: int) -> np.ndarray:
        """The complete utterance, float32 (samples,); see `AudioFolder.complete`."""
        waveform = self._stored(index)
        return super().complete(index) if waveform is None else _as_float(waveform)

    def crop(self, index: int, samples: int, start: Start = first_sample) -> np.ndarray:
        """At most `samples` samples of the utterance, float32; see `read_crop`."""
        waveform = self._stored(index)
        return super().crop(index, samples, start) if waveform is None else _as_float(cropped(waveform, samples, start))

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_opened": None}

    def _stored(self, index: int) -> np.ndarray | None:
        if self._opened is None:
            self._opened = self._records(), np.memmap(self.cache, dtype=np.uint8, mode="r")
        records, content = self._opened
        record = records[index]
        if not record["samples"]:
            return None
        kind = KINDS[record["kind"]]
        return content[record["offset"] :][: record["samples"] * kind.itemsize].view(kind)

    def _records(self) -> np.ndarray:
        return np.memmap(self.cache, dtype=RECORD, mode="r", shape=(len(self.utterances),))

    def _fits(self, headers: np.ndarray) -> bool:
        try:
            records = self._records()
        except (OSError, ValueError):
            return False
        return all(bool((records[column] == headers[column]).all()) for column in ("size", "time"))

    def _make(self, headers: np.ndarray) -> None:
        records = np.zeros(len(headers), dtype=RECORD)
        records["size"], records["time"] = headers["size"], headers["time"]
        offset = records.nbytes
        files = AudioFolder(self.base_dir, self.utterances, self.files, self.trials)
        with atomic_write(self.cache, "wb") as stream:
            stream.seek(offset)
            for index, waveform in enumerate(_in_parallel(_compact, files, "decoding")):
                records["offset"][index], records["samples"][index] = offset, len(waveform)
                records["kind"][index] = KINDS.index(waveform.dtype)
                stream.write(waveform)
                offset += waveform.nbytes
                # Views of float32 are read at a multiple of four bytes.
                offset = stream.seek(offset + -offset % 4)
            stream.seek(0)
            stream.write(records)


def _as_float(waveform: np.ndarray) -> np.ndarray:
    if waveform.dtype == KINDS[0]:
        return waveform / np.float32(FULL_SCALE)
    return np.array(waveform)


def _compact(audio: AudioFolder, index: int) -> np.ndarray:
    """The waveform in the smallest type that holds it exactly; empty where the file cannot be used."""
    try:
        waveform = audio.complete(index)
    except BadAudio:
        return np.zeros(0, dtype=KINDS[0])
    levels = waveform * np.float32(FULL_SCALE)
    exact = levels.min() >= -FULL_SCALE and levels.max() < FULL_SCALE and (levels == np.rint(levels)).all()
    return levels.astype(KINDS[0]) if exact else waveform.astype(KINDS[1])


def _key(audio: AudioFolder, trials: Trials) -> str:
    folder = str(audio.folder.resolve())
    return hashlib.sha256(f"{folder}\n{trials.digest}\n{VERSION}".encode()).hexdigest()[:16]


def _stat(audio: AudioFolder, index: int) -> tuple[int, int]:
    try:
        status = os.stat(audio.path(index))
    except OSError:
        return -1, 0
    return status.st_size, status.st_mtime_ns


def _header(audio: AudioFolder, index: int) -> tuple[int, int, int, bool]:
    try:
        return tuple(inspect(audio.path(index)))  # type: ignore[return-value]
    except BadAudio:
        return 0, 0, 0, False


def _reason(path: Path) -> str:
    """Why a file cannot be used, as any command says it."""
    try:
        read_audio(path)
    except BadAudio as why:
        return str(why).removeprefix(f"{path}: ")
    return "it could not be opened a moment ago"


def _in_parallel(
    work: Callable[[AudioFolder, int], Result], audio: AudioFolder, what: str, items: np.ndarray | None = None
) -> Iterator[Result]:
    """`work(audio, item)` of every item in their order, by a few threads, a bounded number at a time."""
    places: range | np.ndarray = range(len(audio.utterances)) if items is None else items
    with ThreadPoolExecutor(min(8, 2 * (os.cpu_count() or 1))) as pool:
        bar = tqdm(total=len(places), desc=what, unit="file", leave=False, disable=None, delay=1)
        for begin in range(0, len(places), AT_ONCE):
            some = places[begin : begin + AT_ONCE]
            yield from pool.map(lambda index: work(audio, int(index)), some)
            bar.update(len(some))
        bar.close()
