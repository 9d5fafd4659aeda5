"""Headers of a split's audio, read before training, and its decoded samples, kept for the epochs after the first.

    headers-<key>.bin   size, times, length, rate and channels of each file, and which decoder reads it: they are read
                        once, then only of the files whose size or times have changed, or that could not be used
    audio-<key>.bin     a record a file, then all samples one after the other; int16 where that holds the waveform
                        exactly, as for 16-bit FLAC, else float32

The key is made of the audio's folder, the protocol's content, and the version of what reads audio. A cache is used only
where size and times of every file are those that it was made from. It is written atomically; two runs that start at
once make it once.

Nothing is believed unread: each file begins with its kind, its length and a checksum of its table, and each record of
samples has a checksum that is compared when it is first read. A cache that is damaged, cut short or taken away is made
again, or in the middle of a run passed by: then the audio itself is read. One that cannot be written is a warning.
"""

import contextlib
import hashlib
import logging
import mmap
import os
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from tqdm import tqdm

from s2pecnet.audio.crops import Start, cropped, first_sample
from s2pecnet.audio.decoding import BadAudio, inspect, read_audio
from s2pecnet.corpora.trials import Trials
from s2pecnet.data.utterances import AudioFolder, JoinedAudio
from s2pecnet.errors import InputError, describe_error
from s2pecnet.files import atomic_write
from s2pecnet.interruption import raise_if_stop_requested
from s2pecnet.locks import waiting_lock

# What a file is taken to be unchanged by. Its content may change while size and time of modification are kept (cp -p,
# rsync -t); the time of its last change of any kind then is another one.
STATUS = [("size", "<i8"), ("time", "<i8"), ("changed", "<i8")]
# And what its header says; size -1 where there is no file.
HEADER = np.dtype([*STATUS, ("frames", "<i8"), ("rate", "<i4"), ("channels", "<i2"), ("second", "<i2")])
RECORD = np.dtype([*STATUS, ("offset", "<i8"), ("samples", "<i8"), ("kind", "<u4"), ("crc", "<u4")])
KINDS = (np.dtype("<i2"), np.dtype("<f4"))
# What both files begin with: which of the two it is, the length of the file, and a checksum of the table behind it.
HEAD = np.dtype([("magic", "S16"), ("length", "<i8"), ("crc", "<u4"), ("reserved", "<u4")])
HEADERS, SAMPLES = b"S2pecNet headers", b"S2pecNet samples"
FULL_SCALE = 32768.0
AT_ONCE = 256
# Another one where the same file gives other samples than before, or is refused (2 is the second decoder), or where
# these files have another form (3 has checksums).
VERSION = 3

log = logging.getLogger(__name__)

Result = TypeVar("Result")


def read_headers(audio: AudioFolder, trials: Trials, cache_dir: Path | None = None) -> np.ndarray:
    """Headers (n,) of a split's files, of type HEADER; `frames` is 0 where a file cannot be opened or is not complete.

    Args:
        cache_dir: where they are kept; None: they are read again.

    Raises:
        Stopped: a signal has come.
    """
    if audio.parts:
        return np.concatenate([read_headers(part, own, cache_dir) for part, own in _of_parts(audio)])
    kept = None if cache_dir is None else cache_dir / f"headers-{cache_key(audio, trials)}.bin"
    headers = np.zeros(len(trials), dtype=HEADER)
    for file, status in enumerate(in_parallel(_stat, audio, "files")):
        headers["size"][file], headers["time"][file], headers["changed"][file] = status
    before = None if kept is None else read_table(kept, HEADERS, HEADER, len(headers))
    same = np.zeros(len(headers), dtype=bool) if before is None else unchanged(before, headers)
    if before is not None:
        # What could not be used may have been no fault of the file: a network disk fails for a moment, say.
        same &= before["frames"] > 0
        np.copyto(headers, before, where=same)
    changed = np.flatnonzero(~same & (headers["size"] > 0))
    for index, found in zip(changed, in_parallel(_header, audio, "headers", changed), strict=True):
        for column, value in zip(("frames", "rate", "channels", "second"), found, strict=True):
            headers[column][index] = value
    if kept is not None and (before is None or not np.array_equal(before, headers)):
        try:
            with atomic_write(kept, "wb", by_any=True) as stream:
                stream.write(head_of(HEADERS, headers, HEAD.itemsize + headers.nbytes))
                stream.write(headers)
        except OSError as error:
            log.warning("headers of the audio are not kept for the next run (%s)", describe_error(error))
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
    # The message is that of the corpus which has the first such file.
    for part, own, of_part in _with_headers(audio, headers):
        check_headers(part, own, of_part)
    if not audio.folder.is_dir():
        raise InputError(f"{audio.folder}: no such folder, though {trials.path} names {len(trials)} files in it")
    missing = bad[headers["size"][bad] < 0]
    shown, what = (missing, "are missing") if len(missing) else (bad, "cannot be used")
    named = []
    for index, line in zip(shown[:3].tolist(), trials.line[shown[:3]], strict=True):
        reason = "" if len(missing) else f": {_reason(audio, index)}"
        named.append(f"{audio.path(index).name}{f' (line {line})' if line else ''}{reason}")
    first = (", " if len(missing) else "; ").join(named)
    raise InputError(
        f"{audio.folder}: {len(shown)} of {len(trials)} files that {trials.path} names {what}: "
        f"{first}{', ...' if len(shown) > 3 else ''}"
    )


def _of_parts(audio: AudioFolder) -> Iterator[tuple[AudioFolder, Trials]]:
    """The audio of each of several corpora, and its trials."""
    for part in audio.parts:
        assert part.trials is not None
        yield part, part.trials


def _with_headers(audio: AudioFolder, headers: np.ndarray) -> Iterator[tuple[AudioFolder, Trials, np.ndarray]]:
    """The same with their headers, of those of all (n,)."""
    begin = 0
    for part, own in _of_parts(audio):
        yield part, own, headers[begin : begin + len(own)]
        begin += len(own)


def digest_of(headers: np.ndarray) -> str:
    """SHA-256 of the sizes, lengths, rates and channels of a split's files: other audio has another one."""
    columns = [np.ascontiguousarray(headers[name]).tobytes() for name in ("size", "frames", "rate", "channels")]
    return hashlib.sha256(b"".join(columns)).hexdigest()


def with_cache(audio: AudioFolder, trials: Trials, headers: np.ndarray, cache_dir: Path) -> AudioFolder:
    """The same utterances, decoded once: read from an `AudioCache`, or from one of each corpus."""
    if not audio.parts:
        return AudioCache(audio, trials, headers, cache_dir)
    return JoinedAudio([AudioCache(*part, cache_dir) for part in _with_headers(audio, headers)], trials)


class _Opened(NamedTuple):
    """An audio cache, open for reading. `checked` has a byte a record, shared by the loading processes that fork."""

    descriptor: int
    records: np.ndarray
    checked: mmap.mmap


class AudioCache(AudioFolder):
    """The utterances of an `AudioFolder`, decoded once and read from one file; gives the same samples to the bit.

    It is made where there is none that fits `headers`. Files that cannot be used are left out of it; they raise
    `BadAudio` when they are asked for, as without a cache.
    """

    def __init__(self, audio: AudioFolder, trials: Trials, headers: np.ndarray, cache_dir: Path):
        super().__init__(audio.base_dir, audio.utterances, audio.files, audio.trials, audio.store)
        self.cache = cache_dir / f"audio-{cache_key(audio, trials)}.bin"
        self._opened: _Opened | None = None
        self._usable = True
        try:
            if not self._fits(headers):
                cache_dir.mkdir(parents=True, exist_ok=True)
                with waiting_lock(Path(f"{self.cache}.lock"), f"makes the audio cache of {audio.folder}"):
                    # Another run may have made it while this one waited.
                    if not self._fits(headers):
                        self._make(headers)
            # Now, so that the loading processes share what has been checked.
            self._opened = self._open()
        except (OSError, ValueError) as error:
            log.warning(
                "no audio cache, each file is decoded whenever it is needed (%s)",
                error if isinstance(error, ValueError) else describe_error(error),
            )
            self._usable = False

    def complete(self, index: int) -> np.ndarray:
        """The complete utterance, float32 (samples,); see `AudioFolder.complete`."""
        waveform = self._stored(index)
        return super().complete(index) if waveform is None else _as_float(waveform)

    def crop(self, index: int, samples: int, start: Start = first_sample) -> np.ndarray:
        """At most `samples` samples of the utterance, float32; see `read_crop`."""
        waveform = self._stored(index, samples, start)
        return super().crop(index, samples, start) if waveform is None else _as_float(waveform)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_opened": None}

    def __del__(self) -> None:
        if getattr(self, "_opened", None) is not None:
            os.close(self._opened.descriptor)  # type: ignore[union-attr]

    def _stored(self, index: int, samples: int | None = None, start: Start = first_sample) -> np.ndarray | None:
        """The samples of a record, or a crop of them; None where the cache has none, or none that can be used.

        They are read, not mapped: a mapped file that is cut short kills the process which looks at it.
        """
        if not self._usable:
            return None
        try:
            self._opened = self._opened or self._open()
            descriptor, records, checked = self._opened
            record = records[index]
            count, kind = int(record["samples"]), KINDS[record["kind"]]
            if not count:
                return None
            if not checked[index]:
                content = read_at(descriptor, int(record["offset"]), count * kind.itemsize)
                if zlib.crc32(content) != record["crc"]:
                    raise ValueError(f"the samples of {self.utterances[index]}")
                checked[index] = 1
                waveform: np.ndarray = np.frombuffer(content, kind)
                return waveform if samples is None else cropped(waveform, samples, start)
            first = 0
            if samples is not None and count > samples:
                first, count = start(count - samples), samples
            content = read_at(descriptor, int(record["offset"]) + first * kind.itemsize, count * kind.itemsize)
            return np.frombuffer(content, kind)
        except (OSError, ValueError, IndexError) as error:
            self._usable = False
            # The next run makes it again. Of several loading processes the one that removes it says so.
            with contextlib.suppress(OSError):
                self.cache.unlink()
                log.warning("%s: damaged (%s); removed, the audio itself is read instead", self.cache, error)
            return None

    def _open(self) -> _Opened:
        descriptor, records = open_table(self.cache, SAMPLES, RECORD, len(self.utterances))
        return _Opened(descriptor, records, mmap.mmap(-1, max(1, len(records))))

    def _fits(self, headers: np.ndarray) -> bool:
        records = read_table(self.cache, SAMPLES, RECORD, len(headers))
        return records is not None and bool(unchanged(records, headers).all())

    def _make(self, headers: np.ndarray) -> None:
        records = np.zeros(len(headers), dtype=RECORD)
        for column, _ in STATUS:
            records[column] = headers[column]
        offset = HEAD.itemsize + records.nbytes
        files = AudioFolder(self.base_dir, self.utterances, self.files, self.trials, self.store)
        with atomic_write(self.cache, "wb", by_any=True) as stream:
            stream.seek(offset)
            for index, waveform in enumerate(in_parallel(_compact, files, "decoding")):
                records["offset"][index], records["samples"][index] = offset, len(waveform)
                records["kind"][index] = KINDS.index(waveform.dtype)
                records["crc"][index] = zlib.crc32(waveform.tobytes())
                stream.write(waveform)
                offset += waveform.nbytes
            stream.seek(0)
            stream.write(head_of(SAMPLES, records, offset))
            stream.write(records)


def head_of(magic: bytes, table: np.ndarray, length: int) -> bytes:
    """What a cache's file of so many bytes begins with, before its table."""
    return np.array([(magic, length, zlib.crc32(table.tobytes()), 0)], dtype=HEAD).tobytes()


def open_table(path: Path, magic: bytes, dtype: np.dtype[Any], count: int) -> tuple[int, np.ndarray]:
    """A descriptor of a cache's file, and its table (count,).

    Raises:
        OSError, ValueError: there is none, or not as it was written.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        head = np.frombuffer(read_at(descriptor, 0, HEAD.itemsize), HEAD)[0]
        if head["magic"] != magic or head["length"] != os.fstat(descriptor).st_size:
            raise ValueError("its head")
        content = bytearray(read_at(descriptor, HEAD.itemsize, count * dtype.itemsize))
        if zlib.crc32(content) != head["crc"]:
            raise ValueError("its table")
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor, np.frombuffer(content, dtype)


def read_table(path: Path, magic: bytes, dtype: np.dtype[Any], count: int) -> np.ndarray | None:
    """The table (count,) of a cache's file; None where there is none, or not as it was written."""
    try:
        descriptor, table = open_table(path, magic, dtype, count)
    except (OSError, ValueError):
        return None
    os.close(descriptor)
    return table


def read_at(descriptor: int, offset: int, length: int) -> bytes:
    """So many bytes of a file from an offset on.

    Raises:
        ValueError: there are fewer.
    """
    if hasattr(os, "pread"):
        content = os.pread(descriptor, length, offset)
    else:
        os.lseek(descriptor, offset, os.SEEK_SET)
        content = os.read(descriptor, length)
    if len(content) < length:
        raise ValueError("it is cut short")
    return content


def unchanged(before: np.ndarray, now: np.ndarray) -> np.ndarray:
    """Which files (n,) have the same size and times in two tables."""
    return np.logical_and.reduce([before[column] == now[column] for column, _ in STATUS])


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


def cache_key(audio: AudioFolder, trials: Trials) -> str:
    """What names the caches of a split: its audio's folder, its protocol's content, and the version of this code."""
    if audio.parts:
        keys = "\n".join(cache_key(part, own) for part, own in _of_parts(audio))
        return hashlib.sha256(keys.encode()).hexdigest()[:16]
    folder = str(audio.folder.resolve())
    return hashlib.sha256(f"{folder}\n{trials.digest}\n{VERSION}".encode()).hexdigest()[:16]


def _stat(audio: AudioFolder, index: int) -> tuple[int, int, int]:
    try:
        return audio.status(index)
    except OSError:
        return -1, 0, 0


def _header(audio: AudioFolder, index: int) -> tuple[int, int, int, bool]:
    try:
        return tuple(inspect(audio.source(index)))  # type: ignore[return-value]
    except BadAudio:
        return 0, 0, 0, False


def _reason(audio: AudioFolder, index: int) -> str:
    """Why a file cannot be used, as any command says it."""
    try:
        path = audio.source(index)
        read_audio(path)
    except BadAudio as why:
        return str(why).removeprefix(f"{audio.path(index) if audio.store is None else ''}: ")
    return "it could not be opened a moment ago"


def in_parallel(
    work: Callable[[AudioFolder, int], Result], audio: AudioFolder, what: str, items: np.ndarray | None = None
) -> Iterator[Result]:
    """`work(audio, item)` of every item in their order, by a few threads, a bounded number at a time."""
    indices: range | np.ndarray = range(len(audio.utterances)) if items is None else items
    pool = ThreadPoolExecutor(min(8, 2 * (os.cpu_count() or 1)))
    unfinished = f"{audio.folder} was not read completely"
    bar = tqdm(total=len(indices), desc=what, unit="file", leave=False, disable=None, delay=1)
    try:
        for begin in range(0, len(indices), AT_ONCE):
            some = indices[begin : begin + AT_ONCE]
            for result in pool.map(lambda index: work(audio, int(index)), some):
                yield result
                raise_if_stop_requested(unfinished)
            bar.update(len(some))
    finally:
        bar.close()
        pool.shutdown(cancel_futures=True)
