"""No command replaces a file that it was given: hours of scoring may be in it."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from s2pecnet.cli import arena, calibrate, crosseval, evaluate, export, fuse, predict
from s2pecnet.errors import InputError

Main = Callable[[Sequence[str]], object]
# Of each command the words, in which IN stands for a file that --output names, too.
COMMANDS: list[tuple[Main, str]] = [
    (evaluate.main, "--cm IN"),
    (evaluate.main, "--cm a --keys IN"),
    (evaluate.main, "--cm a --asv IN"),
    (evaluate.main, "--cm a --calibrate-on IN"),
    (evaluate.main, "--cm a --calibrate-on b --calibrate-keys IN"),
    (evaluate.main, "--cm a --by codec --table IN"),
    (evaluate.main, "--sasv IN"),
    (crosseval.main, "--scores A:LA=IN"),
    (crosseval.main, "--scores A:LA=a --keys LA=IN"),
    (crosseval.main, "--scores A:LA=a --asv LA=IN"),
    (crosseval.main, "--scores A:LA=a --calibration IN"),
    (crosseval.main, "--scores A:LA=a --calibration A=IN"),
    (crosseval.main, "--config IN LA"),
    (crosseval.main, "--config a --weights IN LA"),
    (crosseval.main, "--config a mine=IN"),
    (crosseval.main, "--config a IN"),
    (arena.main, "scores --cm IN"),
    (arena.main, "submission --cm IN --scores b --config c --weights d"),
    (arena.main, "submission --cm a --scores IN --config c --weights d"),
    (arena.main, "submission --protocol IN --scores b --config c --weights d"),
    (arena.main, "submission --cm a --scores b --config IN --weights d"),
    (arena.main, "submission --cm a --scores b --config c --weights IN"),
    (arena.main, "submission --cm a --scores b --config c --weights d --calibration-scores IN --calibration-cm e"),
    (calibrate.main, "--cm IN"),
    (calibrate.main, "--cm a --keys IN"),
    (fuse.main, "--cm IN --cm b --apply c d"),
    (fuse.main, "--cm a --cm b --apply IN d"),
    (export.main, "--config a --weights IN --format onnx"),
    (predict.main, "--config AASIST --format csv IN"),
]


@pytest.mark.parametrize(("main", "words"), COMMANDS, ids=[f"{main.__module__} {words}" for main, words in COMMANDS])
def test_an_output_is_no_input(main: Main, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    given = Path("IN.onnx" if main is export.main else "IN.txt")
    given.write_text("what took hours")
    with pytest.raises(InputError, match=rf"--output \S*{given}: that is an input of this command"):
        main([*words.replace("IN", str(given)).split(), "--output", str(tmp_path / given)])
    assert given.read_text() == "what took hours"


def test_nor_is_a_picture(tmp_path: Path) -> None:
    path = tmp_path / "keys.png"
    path.write_text("what took hours")
    with pytest.raises(InputError, match=r"--plot .*: that is an input"):
        crosseval.main(["--scores", f"A:LA={path}", "--plot", str(path)])
