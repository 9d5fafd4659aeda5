"""Outputs of a frozen front end, computed once for each utterance of a split and read from one file afterwards.

    outputs-<key>.bin   a record a file: its size and times, whether it could be used, a checksum; then the outputs,
                        all of one shape, float32 or float16, those of item i at i times their size

Of a learned sum of layers each layer is kept, so that the sum still learns. The key is made of the front end's weights
and options, what it computes in, the trials and the headers of their audio, and the version of this code. The file is
written atomically; two runs that start at once make it once.

It is read at offsets and not mapped, as a mapped file that is cut short kills the process which looks at it. A record
is read whole, so its checksum is compared every time. A damaged one ends the run, and its file is removed: a loading
process has no front end to compute it again with, and the next run makes the file anew.
"""

import contextlib
import hashlib
import json
import logging
import os
import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import DataLoader

from s2pecnet.config.experiment import Config
from s2pecnet.corpora.trials import Trials
from s2pecnet.data.cache import (
    HEAD,
    STATUS,
    cache_key,
    digest_of,
    head_of,
    in_parallel,
    open_table,
    read_at,
    unchanged,
)
from s2pecnet.data.utterances import AudioFolder
from s2pecnet.data.workers import workers_that_fit
from s2pecnet.errors import InputError
from s2pecnet.files import atomic_write
from s2pecnet.locks import waiting_lock
from s2pecnet.precision import PRECISIONS
from s2pecnet.systems.build import System
from s2pecnet.systems.front_end import FrontEnd
from s2pecnet.systems.self_supervised import SelfSupervisedSystem

RECORD = np.dtype([*STATUS, ("usable", "<u4"), ("crc", "<u4")])
MAGIC = b"S2pecNet outputs"
# Another one where the same front end gives other outputs than before, or the file has another form.
VERSION = 2
# Utterances that pass the front end at once: the same ones in every run, as their number changes the last digits.
AT_ONCE = 8

log = logging.getLogger(__name__)


class FrontEndOutputs:
    """Callable: an item of a split to the outputs of its front end, as a tensor; None where its audio was not usable.

    Attributes:
        path: the file.
        shape: (frames, width), or (layers, frames, width).
        dtype: float32 or float16.
    """

    def __init__(self, path: Path, items: int, shape: tuple[int, ...], dtype: np.dtype[Any]):
        self.path, self.items, self.shape, self.dtype = path, items, shape, dtype
        self.size = int(np.prod(shape)) * dtype.itemsize
        self._opened: tuple[int, np.ndarray] | None = None

    def __call__(self, index: int) -> Tensor | None:
        """The outputs of an item.

        Raises:
            InputError: the file is damaged, cut short or taken away; it is removed.
        """
        try:
            descriptor, records = self._opened = self._opened or self.open()
            if not records["usable"][index]:
                return None
            content = bytearray(read_at(descriptor, self.begin + index * self.size, self.size))
            if zlib.crc32(content) != records["crc"][index]:
                raise ValueError(f"the outputs of item {index}")
        except (OSError, ValueError) as error:
            with contextlib.suppress(OSError):
                self.path.unlink()
            raise InputError(
                f"feature_cache: {self.path}: damaged ({error}); removed, the next run (--resume) computes it again"
            ) from None
        return torch.from_numpy(np.frombuffer(content, self.dtype).reshape(self.shape))

    @property
    def begin(self) -> int:
        """Where the outputs begin."""
        return HEAD.itemsize + self.items * RECORD.itemsize

    def open(self) -> tuple[int, np.ndarray]:
        """A descriptor of the file and its table.

        Raises:
            OSError, ValueError: there is none, or not as it was written.
        """
        descriptor, records = open_table(self.path, MAGIC, RECORD, self.items)
        if os.fstat(descriptor).st_size != self.begin + self.items * self.size:
            os.close(descriptor)
            raise ValueError("its length")
        return descriptor, records

    def fits(self, headers: np.ndarray) -> bool:
        """Whether it is there and was made of these files."""
        try:
            descriptor, records = self.open()
        except (OSError, ValueError):
            return False
        os.close(descriptor)
        return bool(unchanged(records, headers).all())

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_opened": None}

    def __del__(self) -> None:
        if getattr(self, "_opened", None) is not None:
            os.close(self._opened[0])  # type: ignore[index]


def use_feature_cache(system: System, loaders: dict[str, tuple[DataLoader[Any], Trials]], folder: Path) -> None:
    """Let loaders give the outputs of the system's front end in the waveforms' place, and the system take them.

    Args:
        system: as it will train, with its weights.
        loaders: by split, with their trials; not iterated yet.
        folder: where caches are kept.

    Raises:
        InputError: the system's front end cannot be left out, or does not fit the number format.
        OSError: the file cannot be written.
        Stopped: a signal has come.
    """
    config, model = system.config, system.model
    if not isinstance(model, SelfSupervisedSystem):
        raise InputError(f"{config.source}: feature_cache: {config.architecture} has no front end; leave it out")
    if system.inputs.feature is not None or not model.front_end.frozen:
        raise InputError(f"{config.source}: feature_cache: {config.architecture} takes more than a frozen front end")
    if any(isinstance(module, _BatchNorm) for module in model.front_end.modules()):
        # Averaged weights would have other statistics in it.
        raise InputError(f"{config.source}: feature_cache: this front end has BatchNorm; leave it out")
    assert config.feature_cache is not None
    samples, front_end = system.inputs.samples, model.front_end
    picked = (len(front_end.picked),) if front_end.picked else ()
    shape = (*picked, front_end.frames(samples), front_end.width)
    dtype = np.dtype(config.feature_cache).newbyteorder("<")
    about = [VERSION, samples, shape, dtype.str, config.precision, system.device.type, _digest(front_end)]
    for name, (loader, trials) in loaders.items():
        data: Any = loader.dataset
        audio: AudioFolder = data.audio
        assert audio.headers is not None
        own = json.dumps([*about, cache_key(audio, trials), digest_of(audio.headers)])
        key = hashlib.sha256(own.encode()).hexdigest()[:16]
        outputs = FrontEndOutputs(folder / f"outputs-{key}.bin", len(data), shape, dtype)
        if not outputs.fits(audio.headers):
            folder.mkdir(parents=True, exist_ok=True)
            with waiting_lock(Path(f"{outputs.path}.lock"), f"computes the front end's outputs of {name}"):
                # Another run may have made it while this one waited.
                if not outputs.fits(audio.headers):
                    _make(outputs, system, loader, config)
        data.outputs = outputs
        if loader.num_workers:
            batch = outputs.size * (loader.batch_size or 1)
            chosen = config.num_workers is not None
            loader.num_workers = workers_that_fit(loader.num_workers, config.prefetch, batch, chosen)
            loader.timeout = loader.timeout if loader.num_workers else 0
    model.takes_outputs = True


def _make(outputs: FrontEndOutputs, system: System, loader: DataLoader[Any], config: Config) -> None:
    data: Any = loader.dataset
    headers, front_end, precision = data.audio.headers, system.model.front_end, PRECISIONS[config.precision]
    assert isinstance(front_end, FrontEnd)
    need, free = outputs.items * outputs.size, shutil.disk_usage(outputs.path.parent).free
    if need > free:
        raise InputError(
            f"{config.source}: feature_cache: {outputs.path.parent} has {free / 2**30:.1f} GiB free, and the outputs "
            f"of {outputs.items} utterances need {need / 2**30:.1f}; use --cache_dir, or leave it out"
        )
    records = np.zeros(outputs.items, dtype=RECORD)
    for column, _ in STATUS:
        records[column] = headers[column]

    def computed() -> Iterator[tuple[int, np.ndarray]]:
        waiting: list[tuple[int, Tensor]] = []
        found = in_parallel(lambda _, index: data._inputs_of(index, None), data.audio, "front end")
        for index, inputs in enumerate(found):
            if inputs is not None:
                waiting.append((index, inputs[0]))
            if waiting and (len(waiting) == AT_ONCE or index + 1 == outputs.items):
                with torch.inference_mode(), precision.autocast(system.device), torch.random.fork_rng([]):
                    given = torch.stack([waveform for _, waveform in waiting]).to(system.device)
                    block = front_end(given).float().cpu().numpy()
                with np.errstate(over="ignore"):
                    yield from zip([index for index, _ in waiting], block.astype(outputs.dtype), strict=True)
                waiting.clear()

    with atomic_write(outputs.path, "wb", by_any=True) as stream:
        for index, output in computed():
            if not np.isfinite(output).all():
                wider = "; use float32" if config.feature_cache == "float16" else ""
                raise InputError(
                    f"{config.source}: feature_cache: {config.feature_cache} cannot hold the front end's outputs of "
                    f"{data.list_IDs[index]}{wider}"
                )
            content = output.tobytes()
            records["usable"][index], records["crc"][index] = 1, zlib.crc32(content)
            stream.seek(outputs.begin + index * outputs.size)
            stream.write(content)
        length = outputs.begin + outputs.items * outputs.size
        # Behind an item that is not usable there may be none.
        stream.truncate(length)
        stream.seek(0)
        stream.write(head_of(MAGIC, records, length))
        stream.write(records)


def _digest(front_end: FrontEnd) -> str:
    """SHA-256 of all that decides about a front end's outputs."""
    options = [front_end.configuration, front_end.picked, front_end.normalise]
    digest = hashlib.sha256(json.dumps(options, sort_keys=True).encode())
    attention = getattr(front_end.model.config, "_attn_implementation", None)
    digest.update(f"{attention} {torch.__version__}".encode())
    for name, tensor in sorted(front_end.state_dict().items()):
        digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
