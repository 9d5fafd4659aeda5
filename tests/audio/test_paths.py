"""Files are found in a stated order and as they are asked for; what cannot be found is told in its place."""

import os
import threading
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from s2pecnet.audio import paths
from s2pecnet.audio.paths import find_audio, read_lines, require_files, skipped_in_words
from s2pecnet.errors import InputError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in (
        "b.wav",
        "a.FLAC",
        "notes.txt",
        ".hidden.wav",
        "sub/z.ogg",
        "sub/deep/y.mp3",
        "zz.opus",
        "empty/x.txt",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def found(*paths: object) -> list[str]:
    return [str(item) for item in find_audio(map(str, paths))]


def test_folders_are_walked_in_order_of_names(folder: Path) -> None:
    names = ["a.FLAC", "b.wav", "sub/deep/y.mp3", "sub/z.ogg", "zz.opus"]
    assert found(folder) == [str(folder / name) for name in names]
    assert found(folder / "sub", folder / "b.wav", folder / "b.wav") == [
        str(folder / name) for name in ("sub/deep/y.mp3", "sub/z.ogg", "b.wav", "b.wav")
    ]


def test_links_to_folders_are_not_followed(folder: Path) -> None:
    (folder / "sub" / "loop").symlink_to(folder)
    (folder / "sub" / "link.wav").symlink_to(folder / "b.wav")
    assert found(folder / "sub") == [str(folder / "sub" / name) for name in ("deep/y.mp3", "link.wav", "z.ogg")]


def test_files_are_taken_as_they_are_named(folder: Path) -> None:
    assert found(folder / "notes.txt", folder / "missing.wav") == [
        str(folder / "notes.txt"),
        str(folder / "missing.wav"),
    ]


def test_globs_that_the_shell_left(folder: Path) -> None:
    assert found(f"{folder}/*.[wo]*") == [str(folder / "b.wav"), str(folder / "zz.opus")]
    assert found(f"{folder}/**/*.mp3") == [str(folder / "sub/deep/y.mp3")]
    assert found(f"{folder}/s*b") == found(folder / "sub")
    assert found(f"{folder}/*.xyz") == [f"{folder}/*.xyz: no file matches"]
    (folder / "a[1].wav").touch()
    assert found(folder / "a[1].wav") == [str(folder / "a[1].wav")]


def test_a_folder_is_walked_as_far_as_it_is_asked_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scanned: list[object] = []
    scandir = os.scandir

    def counting(path: str) -> "os._ScandirIterator[str]":
        scanned.append(path)
        return scandir(path)

    monkeypatch.setattr(paths.os, "scandir", counting)
    walk = find_audio([str(folder)])
    assert next(walk) == str(folder / "a.FLAC")
    assert scanned == [str(folder)]


def test_folders_without_audio_are_reported(folder: Path) -> None:
    (item,) = find_audio([str(folder / "empty")])
    assert isinstance(item, InputError)
    assert str(item) == f"{folder / 'empty'}: no audio file in this folder; skipped: 1 that are no audio (.txt 1)"
    (folder / "empty" / "x.txt").unlink()
    assert found(folder / "empty") == [f"{folder / 'empty'}: no audio file in this folder, it is empty"]


def test_what_is_skipped_is_counted(folder: Path) -> None:
    (folder / "linked").symlink_to(folder / "sub")
    for name in ("a.txt", "README", "x.y.pdf"):
        (folder / name).write_text("no audio\n")
    os.mkfifo(folder / "pipe")
    soundfile.write(folder / "SW02001", np.full(4000, 0.1), 8000, format="WAV")
    skipped: Counter[str] = Counter()
    names = [os.path.relpath(str(path), folder) for path in find_audio([str(folder)], skipped)]
    assert names == ["SW02001", "a.FLAC", "b.wav", "sub/deep/y.mp3", "sub/z.ogg", "zz.opus"]
    assert skipped == {"": 1, ".txt": 3, ".pdf": 1, "hidden": 1, "linked folders": 1, "no regular files": 1}
    assert skipped_in_words(skipped) == (
        "5 that are no audio (.txt 3, .pdf 1, no ending 1), 1 hidden, 1 linked folders, 1 no regular files"
    )
    assert skipped_in_words(Counter()) == ""


def test_nothing_at_all_is_an_error(folder: Path) -> None:
    paths = [str(folder / "empty"), f"{folder}/*.xyz"]
    with pytest.raises(InputError, match=r"(?s)no audio file in this folder.*\n.*no file matches"):
        require_files(find_audio(paths), paths)
    with pytest.raises(InputError) as caught:
        require_files(find_audio(["x1", "x2", "x3", "x4", "x5"]), [])
    assert str(caught.value).splitlines()[2:] == ["x3: no such file", "no file found in 2 more"]
    with pytest.raises(InputError, match="no audio file found in -"):
        require_files(iter([None]), ["-"])
    paths.append(str(folder / "b.wav"))
    items = list(require_files(find_audio(paths), paths))
    assert [isinstance(item, InputError) for item in items] == [True, True, False]


def test_lines_come_as_they_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "PATIENCE", 0.01)
    reading, writing = os.pipe()
    lines = read_lines(reading)
    os.write(writing, b"one\r\ntwo words\n\n  \nhal")
    assert [next(lines), next(lines)] == ["one", "two words"]
    # Nothing more for the moment: said once, then it waits.
    assert next(lines) is None

    def write_rest() -> None:
        os.write(writing, b"f\ncaf\xe9")
        os.close(writing)

    later = threading.Timer(0.05, write_rest)
    later.start()
    assert [line for line in lines if line is not None] == ["half", "caf\udce9"]
    later.join()
    os.close(reading)


def test_a_list_on_stdin(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "list").write_text(f"{folder}/b.wav\n{folder}/sub\n{folder}/a*c")
    with open(folder / "list") as stream:
        monkeypatch.setattr(paths, "STDIN", stream.fileno())
        # A name of a list is a name: a star in it is a star.
        assert found("-") == [str(folder / name) for name in ("b.wav", "sub/deep/y.mp3", "sub/z.ogg", "a*c")]


def test_an_endless_line_on_stdin_ends(tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes(b"x" * 200_000)
    with open(tmp_path / "list", "rb") as stream, pytest.raises(InputError, match="a line of more than 65,536 bytes"):
        list(paths.read_lines(stream.fileno()))
