"""One training by several processes, started by torchrun: each takes its share of every batch.

    torchrun --nproc_per_node=2 main.py --config ./config/S2pecNet.conf

`batch_size` is that of the whole batch, and the result is that of one process but for rounding: the gradients are
averaged by torch's DistributedDataParallel, class weights and BatchNorm's statistics are those of the whole batch
(`nn/whole_batch.py`), dropout draws the whole batch's mask, crops and augmentation depend on the utterance alone.

Only the process of rank 0 writes files and prints. All functions here do nothing in a process that is alone.
"""

import contextlib
import datetime
import json
import logging
import os
import socket
import time
import uuid
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed

from s2pecnet.errors import InputError
from s2pecnet.files import leaving_results_to_others
from s2pecnet.interruption import note_signal, requested_signal

log = logging.getLogger(__name__)

# How long a process waits for the others before it counts them as lost. One that evaluates alone takes less.
PATIENCE = datetime.timedelta(minutes=30)
# How long a disk that nodes share may take to show a new file to all of them.
SECONDS_TO_SEE = 5
# What torch says, in many words, where another process has gone.
LOST = ("Connection closed by peer", "Connection reset by peer", "connection closed", "Broken pipe", "NCCL", "gloo",
        "Gloo", "recvValue failed", "Socket", "Timed out")  # fmt: skip


# Hints of torch about speed, for systems in channels-last order, and for those that use all of their parameters.
HARMLESS = ("Grad strides do not match bucket view strides", "find_unused_parameters=True was specified")


class ProcessLost(InputError):
    """Another process of the training has ended."""


@dataclass(frozen=True)
class Processes:
    """The processes of a training, as one of them sees them.

    Attributes:
        rank: the number of this one; 0 writes the files.
        size: how many there are.
    """

    rank: int = 0
    size: int = 1

    def share(self, rows: int) -> slice:
        """Which of the rows of a batch this process takes; all take the same number of them."""
        each = rows // self.size
        return slice(self.rank * each, (self.rank + 1) * each)


ALONE = Processes()
_joined = ALONE
# How often this process has met the others, and whether others had met before.
_meetings, _restarted = 0, False


def processes() -> Processes:
    """The processes of this training."""
    return _joined


def by_torchrun() -> bool:
    """Whether torchrun has started this process, alone or beside others."""
    return "TORCHELASTIC_RUN_ID" in os.environ and "RANK" in os.environ


def restarted() -> bool:
    """Whether torchrun starts this training again: after a failure (`--max-restarts`), or since a node came or went."""
    counted = by_torchrun() and int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0
    return any(gathered(counted or _restarted))


def device_of(name: str) -> str:
    """The device of this process where `name` is "auto" or "cuda": the GPU of its local rank."""
    if by_torchrun() and name in ("auto", "cuda") and torch.cuda.is_available():
        return f"cuda:{os.environ['LOCAL_RANK']}"
    return name


@contextlib.contextmanager
def joined(device: torch.device) -> Iterator[Processes]:
    """Take part in the training that torchrun started; outside of torchrun, be alone.

    Raises:
        ProcessLost: another process ends while this one waits for it.
    """
    global _joined
    if not by_torchrun() or _joined is not ALONE:
        yield _joined
        return
    if int(os.environ["WORLD_SIZE"]) == 1:
        # Others may have been there, or may come.
        if _is_hosted():
            _meeting_point()
        yield ALONE
        return
    # Gradients travel between GPUs, what is agreed on between the CPUs.
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    distributed.init_process_group(backend, **_meeting_point(), timeout=PATIENCE)
    _joined = Processes(distributed.get_rank(), distributed.get_world_size())
    level = logging.getLogger("s2pecnet").level
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(warnings.catch_warnings())
            for message in HARMLESS:
                warnings.filterwarnings("ignore", message)
            if _joined.rank:
                # What there is to say, rank 0 says.
                stack.enter_context(leaving_results_to_others())
                stack.enter_context(contextlib.redirect_stdout(stack.enter_context(open(os.devnull, "w"))))
                logging.getLogger("s2pecnet").setLevel(logging.ERROR)
            yield _joined
    except RuntimeError as error:
        if not any(word in str(error) for word in LOST):
            raise
        raise ProcessLost(
            "another process of this training has ended; --resume continues from the last saved state (with torchrun "
            "--max-restarts by itself)"
        ) from None
    finally:
        logging.getLogger("s2pecnet").setLevel(level)
        _joined = ALONE
        with contextlib.suppress(RuntimeError):
            distributed.destroy_process_group()


def _is_hosted() -> bool:
    """Whether torchrun itself has the store, which then outlives the processes."""
    return os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"


def _meeting_point() -> dict[str, Any]:
    """Where the processes find each other: torchrun's own store, under a name of this meeting.

    After a restart it may be the same store, with the addresses of processes that are gone, and each node counts the
    restarts of its own. So every process leaves a mark that nobody has left before, and rank 0 numbers the meeting of
    those whose marks have answered.

    Raises:
        ProcessLost: not all have come within PATIENCE.
    """
    global _meetings, _restarted
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    address, port, hosts = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), rank == 0 and not _is_hosted()
    store = distributed.PrefixStore("s2pecnet", distributed.TCPStore(address, port, size, hosts, PATIENCE))
    mark, deadline = uuid.uuid4().hex, time.monotonic() + PATIENCE.total_seconds()
    store.set(f"mark/{rank}", mark)
    number = store.add("meetings", 1) if rank == 0 else 0
    while True:
        if rank == 0:
            # Again and again: the first marks may be those of processes that are gone.
            marks = [store.get(f"mark/{one}").decode() for one in range(size)]
            store.set("meeting", json.dumps([number, marks]))
            if all(store.check([f"{number}/{one}"]) for one in marks[1:]):
                break
        else:
            number, marks = json.loads(store.get("meeting"))
            if mark in marks:
                store.set(f"{number}/{mark}", "")
                break
        if time.monotonic() > deadline:
            raise ProcessLost("not all processes of this training have come; are all nodes up, with the same torchrun?")
        time.sleep(0.05)
    _meetings += 1
    # The store lives as long as torchrun: who comes late to it was started again.
    _restarted = number > _meetings
    return {"store": distributed.PrefixStore(str(number), store), "rank": rank, "world_size": size}


def agree_on_signals() -> None:
    """Let a signal that came to one process have come to all; all have to ask."""
    if _joined.size > 1:
        found = torch.tensor(requested_signal())
        distributed.all_reduce(found, distributed.ReduceOp.MAX)
        if found:
            note_signal(int(found))


def wait() -> None:
    """Wait until all processes have come here."""
    if _joined.size > 1:
        distributed.barrier()


def gathered(value: Any) -> list[Any]:
    """What each process has, in the order of their ranks."""
    if _joined.size == 1:
        return [value]
    found: list[Any] = [None] * _joined.size
    distributed.all_gather_object(found, value)
    return found


def mean_of(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The means over all processes of scalars."""
    if _joined.size == 1:
        return list(tensors)
    together = torch.stack([tensor.detach() for tensor in tensors])
    distributed.all_reduce(together)
    return list((together / _joined.size).unbind())


def check_shared(folder: Path) -> None:
    """Make sure that all processes see the same folder, on other nodes too: one writes there, all read.

    Raises:
        InputError: one of them does not see what the first has written there.
        OSError: the folder cannot be written.
    """
    if _joined.size == 1:
        return
    mark = folder / f".seen-by-all-{uuid.uuid4().hex}"
    if not _joined.rank:
        folder.mkdir(parents=True, exist_ok=True)
        mark.touch()
    try:
        own = folder / gathered(mark.name)[0]
        deadline = time.monotonic() + SECONDS_TO_SEE
        while not own.exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        blind = [where for seen, where in gathered((own.exists(), f"{socket.gethostname()}:{folder}")) if not seen]
    finally:
        if not _joined.rank:
            mark.unlink(missing_ok=True)
    if blind:
        raise InputError(
            f"--output_dir: {blind[0]} is not the folder that rank 0 writes to; expected one on a disk that all nodes "
            "share"
        )


def check_divisible(batch_size: int, micro_batch_size: int | None) -> None:
    """Make sure that batches can be shared evenly.

    Raises:
        InputError: they cannot.
    """
    size, micro = _joined.size, micro_batch_size or batch_size
    for name, rows in (("batch_size", batch_size), ("micro_batch_size", micro), ("its last", batch_size % micro)):
        if rows % size:
            what = (
                f"micro_batch_size {micro} leaves a last part of {rows}, which"
                if name == "its last"
                else f"{name} {rows}"
            )
            raise InputError(f"{what} cannot be shared evenly by {size} processes; choose a multiple of {size}")
