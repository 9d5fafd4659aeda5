"""A file appears whole or not at all, and a run's folder loses nothing."""

import errno
import json
import os
import shutil
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from s2pecnet.config.experiment import as_config
from s2pecnet.files import atomic_write, remove_leftovers, write_json
from s2pecnet.runs.folder import RunFolder, back_up
from tests.helpers import ROOT
from tests.helpers.samples import TINIEST

# Opens a file, writes half of it, says so, and goes on when it is told to.
SLOW_WRITER = """
import sys
from s2pecnet.files import atomic_write
with atomic_write(sys.argv[1]) as stream:
    stream.write("slow")
    stream.flush()
    print("open", flush=True)
    sys.stdin.readline()
"""

BUSY_WRITER = """
import sys
from s2pecnet.files import atomic_write
for number in range(100):
    with atomic_write(sys.argv[1]) as stream:
        stream.write(f"{sys.argv[2]} {number}\\n" * 50)
"""

# Every writer of the framework, on a disk that takes 64 KiB.
FULL_DISK = """
import errno, sys
from pathlib import Path
import torch
from s2pecnet.systems.weights import read_weights, save_weights
from s2pecnet.errors import InputError
from s2pecnet.files import atomic_write
from s2pecnet.training.checkpoint import read_state, write_state

def text(path, size):
    with atomic_write(path) as stream:
        stream.write("x" * size)

def weights(path, size):
    save_weights(torch.nn.Linear(1, size // 8), path)

def state(path, size):
    write_state(path, {"w": torch.zeros(size // 4)})

folder = Path(sys.argv[1])
for name, write in {"t.txt": text, "w.pth": weights, "w.safetensors": weights, "s.state": state}.items():
    write(folder / name, 2000)
    before = (folder / name).read_bytes()
    try:
        write(folder / name, 200_000)
    except OSError as error:
        assert error.errno in (errno.ENOSPC, errno.EFBIG), error
        assert error.filename == str(folder / name), error.filename
    else:
        raise SystemExit(f"{name}: was written")
    assert (folder / name).read_bytes() == before
names = sorted(path.name for path in folder.iterdir())
print(names, len(read_weights(folder / "w.pth")), len(read_state(folder / "s.state")))
"""


def python(program: str, *arguments: str | Path, before: tuple[str, ...] = ()) -> "subprocess.Popen[str]":
    command = [*before, sys.executable, "-c", program, *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "x.txt"
    with atomic_write(path) as stream:
        stream.write("old")

    def fail() -> None:
        with atomic_write(path) as stream:
            stream.write("half of the n")
            raise RuntimeError("disk on fire")

    with pytest.raises(RuntimeError, match="disk on fire"):
        fail()
    assert path.read_text() == "old"
    assert names(path.parent) == ["x.txt"]


def test_results_are_readable_by_others(tmp_path: Path) -> None:
    previous = os.umask(0o022)
    try:
        with atomic_write(tmp_path / "x", "wb") as stream:
            stream.write(b"1")
    finally:
        os.umask(previous)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o644


def test_json_refuses_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", {"eer": float("nan")})
    assert not (tmp_path / "x.json").exists()
    write_json(tmp_path / "x.json", {"eer": 0.1})
    assert json.loads((tmp_path / "x.json").read_text()) == {"eer": 0.1}


def test_file_and_folder_are_flushed_around_the_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    fsync, replace = os.fsync, os.replace

    def noted_fsync(descriptor: int) -> None:
        steps.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    def noted_replace(source: str, target: Path) -> None:
        steps.append("rename")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", noted_replace)
    write_json(tmp_path / "x.json", 1)
    assert steps == ["file", "rename", "folder"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_disk_errors_name_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match=r"x\.json") as caught:
        write_json(tmp_path / "x.json", 1)
    assert caught.value.errno == number
    assert caught.value.filename == str(tmp_path / "x.json")
    assert names(tmp_path) == []


def test_a_folder_in_the_way_is_named_once(tmp_path: Path) -> None:
    (tmp_path / "x" / "deep").mkdir(parents=True)
    with pytest.raises(IsADirectoryError) as caught:
        write_json(tmp_path / "x", 1)
    assert str(caught.value).endswith(f"'{tmp_path / 'x'}'")
    assert ".part" not in str(caught.value)


def test_errors_about_other_files_keep_their_name(tmp_path: Path) -> None:
    for other in (FileNotFoundError(errno.ENOENT, "gone", "other.txt"), BrokenPipeError(errno.EPIPE, "pipe")):
        with pytest.raises(type(other)) as caught, atomic_write(tmp_path / "x"):
            raise other
        assert caught.value.filename == ("other.txt" if other.errno == errno.ENOENT else None)


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_a_forbidden_folder_names_the_file(tmp_path: Path) -> None:
    # Root may write everywhere, so somebody else does it.
    program = """
import os, sys
from s2pecnet.files import atomic_write
if os.geteuid() == 0:
    os.seteuid(65534)
try:
    with atomic_write(sys.argv[1]):
        pass
except PermissionError as error:
    print(error.filename)
"""
    # Below /tmp itself: pytest's own folders are closed to everybody else.
    folder = Path("/tmp") / f"forbidden-{os.getpid()}"
    folder.mkdir(mode=0o555)
    try:
        out, err = python(program, folder / "x.txt").communicate(timeout=60)
    finally:
        folder.rmdir()
    assert (out, err) == (f"{folder / 'x.txt'}\n", "")


@pytest.mark.skipif(os.name != "posix", reason="limits of POSIX")
def test_a_limit_of_file_size(tmp_path: Path) -> None:
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))\n"
    out, err = python(limit + FULL_DISK, tmp_path).communicate(timeout=120)
    assert (out, err) == ("['s.state', 't.txt', 'w.pth', 'w.safetensors'] 2 1\n", "")


def test_a_full_disk(tmp_path: Path) -> None:
    mount = f'mount -t tmpfs -o size=64k tmpfs {tmp_path} && exec "$@"'
    private = ("unshare", "--map-root-user", "--mount", "sh", "-c")
    if not shutil.which("unshare") or subprocess.run([*private, mount, "-", "true"], capture_output=True).returncode:
        pytest.skip("no file system can be mounted here, not even in a namespace of our own")
    out, err = python(FULL_DISK, tmp_path, before=(*private, mount, "-")).communicate(timeout=120)
    assert (out, err) == ("['s.state', 't.txt', 'w.pth', 'w.safetensors'] 2 1\n", "")


def test_a_killed_writer_leaves_nothing_for_long(tmp_path: Path) -> None:
    target = tmp_path / "x.txt"
    target.write_text("old")
    writer = python(SLOW_WRITER, target)
    assert writer.stdout is not None
    assert writer.stdout.readline() == "open\n"
    (part,) = tmp_path.glob(".x.txt.*.part")
    with atomic_write(target) as stream:
        stream.write("new")
    assert part.exists(), "its writer lives"
    writer.kill()
    writer.communicate()
    assert part.read_text() == "slow"
    with atomic_write(tmp_path / "y.txt") as stream:
        stream.write("another target")
    assert part.exists(), "the next write of x.txt is to remove it"
    with atomic_write(target) as stream:
        assert not part.exists()
        stream.write("newer")
    assert names(tmp_path) == ["x.txt", "y.txt"]
    assert target.read_text() == "newer"


def test_only_abandoned_files_of_this_machine_are_removed(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "x") as stream:
        (ours,) = tmp_path.glob(".x.*.part")
        host = ours.name.split(".")[2]
        # No process has such a number.
        left = [f".{name}.99999999.aaaa.part" for name in (f"x.{host}", "x.another_host", f"y.{host}")]
        for name in (*left, "x.part", f".x.{host}.some.part"):
            (tmp_path / name).write_text("left")
        remove_leftovers(tmp_path, "x")
        assert names(tmp_path) == sorted([ours.name, *left[1:], "x.part", f".x.{host}.some.part"])
        remove_leftovers(tmp_path)
        assert names(tmp_path) == sorted([ours.name, left[1], "x.part", f".x.{host}.some.part"])
        stream.write("whole")
    assert (tmp_path / "x").read_text() == "whole"


def test_two_writers_of_one_file(tmp_path: Path) -> None:
    target = tmp_path / "x.txt"
    slow = python(SLOW_WRITER, target)
    assert slow.stdout is not None
    assert slow.stdout.readline() == "open\n"
    with atomic_write(target) as stream:
        stream.write("quick")
    assert target.read_text() == "quick"
    out, err = slow.communicate("go on\n", timeout=60)
    assert (out, err, slow.returncode) == ("", "", 0)
    # The last rename wins, whole.
    assert target.read_text() == "slow"
    assert names(tmp_path) == ["x.txt"]


def test_many_writers_of_one_file(tmp_path: Path) -> None:
    writers = [python(BUSY_WRITER, tmp_path / "x.txt", name) for name in ("a", "b", "c")]
    for writer in writers:
        assert writer.communicate(timeout=120) == ("", "")
    lines = (tmp_path / "x.txt").read_text().splitlines()
    assert len(lines) == 50
    assert len(set(lines)) == 1
    assert names(tmp_path) == ["x.txt"]


def test_long_names(tmp_path: Path) -> None:
    name = "ü" * 120
    write_json(tmp_path / name, 1)
    assert names(tmp_path) == [name]


def test_earlier_results_are_moved_aside(tmp_path: Path) -> None:
    for number in range(3):
        kept = back_up(tmp_path / "results.json")
        assert (kept.name if kept else None) == (f"results.{number}.json" if number else None)
        (tmp_path / "results.json").write_text(str(number))
    assert (tmp_path / "results.1.json").read_text() == "0"


def test_a_taken_folder_is_backed_up(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    for line in ("first", "second"):
        folder = RunFolder(tmp_path / "run_v1.5", as_config(TINIEST))
        folder.make()
        folder.write_log([line])
    assert (tmp_path / "run_v1.5.1" / "metric_log.txt").read_text() == "first\n"
    assert (tmp_path / "run_v1.5" / "metric_log.txt").read_text() == "second\n"
    assert "the earlier run is now" in caplog.text


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no FIFOs")
def test_devices_and_fifos_are_written_through(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    got: list[str] = []
    reader = threading.Thread(target=lambda: got.append(fifo.read_text()))
    reader.start()
    with atomic_write(fifo) as stream:
        stream.write("through")
    reader.join()
    assert (got, stat.S_ISFIFO(fifo.stat().st_mode)) == (["through"], True)
    with atomic_write(os.devnull) as stream:
        stream.write("away")
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)
    assert [path.name for path in tmp_path.iterdir()] == ["fifo"]


def test_a_link_stays_and_its_target_is_written(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real" / "scores.txt")
    with atomic_write(tmp_path / "link") as stream:
        stream.write("new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "scores.txt").read_text() == "new"


def test_files_have_the_rights_that_the_umask_leaves(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with atomic_write(tmp_path / "a") as stream:
            stream.write("x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640
