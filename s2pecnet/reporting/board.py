"""TensorBoard's record of a training, which is never a reason to end one.

Its events are a by-product: where they cannot be written (a full disk), a warning says so, and the training goes on
without them.
"""

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from s2pecnet.errors import describe_error
from s2pecnet.files import writes

log = logging.getLogger(__name__)


class Board:
    """A `SummaryWriter` that puts up with a disk which does not take its events; a context manager.

    Args:
        folder: where the events go.
        purge_step: hide what an earlier, interrupted process wrote for this step and those after it.
    """

    def __init__(self, folder: Path, purge_step: int | None = None):
        self.folder = folder
        self._writer: SummaryWriter | None = None
        # The writer has a thread of its own, whose exceptions come back at the next call; python is not to print them.
        self._hook = threading.excepthook
        threading.excepthook = self._on_exception
        if writes():
            self._writer = self._try(lambda: SummaryWriter(str(folder), purge_step=purge_step))

    def __enter__(self) -> "Board":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._call("close")
        threading.excepthook = self._hook

    def add_scalar(self, tag: str, value: float, step: int) -> None:
        """See `SummaryWriter.add_scalar`."""
        self._call("add_scalar", tag, value, step)

    def add_image(self, tag: str, pixels: Any, step: int, dataformats: str = "CHW") -> None:
        """See `SummaryWriter.add_image`."""
        self._call("add_image", tag, pixels, step, dataformats=dataformats)

    def flush(self) -> None:
        """Write what has been added."""
        self._call("flush")

    def _call(self, name: str, *given: Any, **named: Any) -> None:
        if self._writer is not None:
            method = getattr(self._writer, name)
            self._try(lambda: method(*given, **named))

    def _try(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except OSError as error:
            self._writer = None
            log.warning("%s: TensorBoard's events cannot be written (%s); going on without", self.folder,
                        error.strerror or describe_error(error))  # fmt: skip
            return None

    def _on_exception(self, found: threading.ExceptHookArgs) -> None:
        if not (issubclass(found.exc_type, OSError) and type(found.thread).__module__.startswith("tensorboard.")):
            self._hook(found)
