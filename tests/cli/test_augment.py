"""`s2pecnet augment` writes what the loader would make of a recording, and draws it."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from s2pecnet.augment.chain import Augmentation
from s2pecnet.cli import augment
from s2pecnet.config.experiment import load_config
from s2pecnet.errors import InputError
from tests.helpers.samples import TINIEST


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "my.conf"
    path.write_text(json.dumps(TINIEST | {"augment": [{"step": "rawboost"}, {"step": "speed"}]}))
    return path


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "talk.wav"
    soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal(24000), 16000, subtype="FLOAT")
    return path


def test_draws_and_pictures(config: Path, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "heard"
    assert augment.main(["--config", str(config), str(clip), "--out", str(out), "--draws", "2", "--seed", "5"]) == 0
    names = ["talk_0.png", "talk_0.wav", "talk_1.png", "talk_1.wav"]
    assert sorted(path.name for path in out.iterdir()) == names
    assert sorted(Path(line).name for line in capsys.readouterr().out.splitlines()) == names
    assert (out / "talk_0.png").read_bytes().startswith(b"\x89PNG")
    x, _ = soundfile.read(clip, dtype="float32")
    chain = Augmentation(load_config(config).augment)
    for draw in range(2):
        y, rate = soundfile.read(out / f"talk_{draw}.wav", dtype="float32")
        assert rate == 16000
        assert np.array_equal(y, chain(x, (5, draw, 0)))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--set", "augment=[]"], r"no augmentation; give steps"),
        (["--draws", "0"], r"--draws is to be at least 1"),
        (["--set", 'augment=[{"step": "noise", "folder": "nowhere"}]'], r"augment\[0\]\.folder: there is no folder no"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(more: list[str], message: str, config: Path, clip: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message) as caught:
        augment.main(["--config", str(config), str(clip), "--out", str(tmp_path / "heard"), *more])
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "heard").exists()


def test_a_recording_is_not_overwritten(config: Path, tmp_path: Path) -> None:
    for name in ("a_0.wav", "a.wav"):
        soundfile.write(tmp_path / name, np.full(1600, 0.1), 16000)
    before = (tmp_path / "a_0.wav").read_bytes()
    with pytest.raises(InputError, match="is a recording that was given"):
        augment.main(["--config", str(config), str(tmp_path / "a.wav"), str(tmp_path / "a_0.wav"), "--out",
                      str(tmp_path), "--no-pictures"])  # fmt: skip
    assert (tmp_path / "a_0.wav").read_bytes() == before
    with pytest.raises(InputError, match="have the same name"):
        augment.main(["--config", str(config), str(tmp_path / "a.wav"), str(tmp_path / "a.wav"), "--out", "x"])
