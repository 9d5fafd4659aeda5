"""What a user hears where torch does not use the GPU that is there."""

import logging
from collections.abc import Callable

import pytest
import torch

from s2pecnet import runtime
from s2pecnet.config.experiment import as_config
from s2pecnet.errors import InputError
from s2pecnet.runtime import prepare, resolve_device, why_no_cuda
from tests.helpers.samples import TINY


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Callable[[str | None, str | None], None]:
    """A machine with an NVIDIA driver, for a torch of a CUDA version (None: none) that fails with a message."""

    def make(version: str | None, message: str | None) -> None:
        def init() -> None:
            if message:
                raise RuntimeError(message)

        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
        monkeypatch.setattr(torch.cuda, "init", init)
        monkeypatch.setattr(torch.version, "cuda", version)
        monkeypatch.setattr(runtime.shutil, "which", lambda name: "/usr/bin/nvidia-smi")

    return make


TOO_OLD = "The NVIDIA driver on your system is too old (found version 11040). Please update your GPU driver by ..."


def test_an_old_driver_is_no_missing_gpu(
    driver: Callable[[str | None, str | None], None], caplog: pytest.LogCaptureFixture
) -> None:
    driver("13.0", TOO_OLD)
    assert prepare("auto", 0, as_config(TINY)).type == "cpu"
    (message,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert "The NVIDIA driver on your system is too old (found version 11040); update the driver" in message
    with pytest.raises(InputError, match=r"torch sees 0 CUDA devices; an NVIDIA driver is here, .* too old"):
        resolve_device("cuda")


def test_a_build_without_cuda_is_named(driver: Callable[[str | None, str | None], None]) -> None:
    driver(None, None)
    assert "is built without CUDA: install a CUDA build" in str(why_no_cuda())


def test_without_a_driver_there_is_nothing_to_say(
    driver: Callable[[str | None, str | None], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    driver("13.0", TOO_OLD)
    monkeypatch.setattr(runtime.shutil, "which", lambda name: None)
    monkeypatch.setattr(runtime.Path, "exists", lambda path: False)
    assert why_no_cuda() is None
    with pytest.raises(InputError, match="torch sees 0 CUDA devices; try --device auto"):
        resolve_device("cuda:1")
