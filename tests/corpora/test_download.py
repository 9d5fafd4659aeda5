"""Download, checksum, unpacking and check of a corpus, against a server that misbehaves on purpose."""

import contextlib
import hashlib
import http.client
import io
import itertools
import json
import os
import random
import re
import shutil
import socket
import stat
import subprocess
import sys
import threading
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from s2pecnet import download as download_module
from s2pecnet.cli.download import main
from s2pecnet.corpora import archive as archive_module
from s2pecnet.corpora import check
from s2pecnet.corpora.archive import unpack, verify_checksum
from s2pecnet.corpora.check import check_tree
from s2pecnet.corpora.download import fetch
from s2pecnet.download import ATTEMPTS, download
from s2pecnet.errors import InputError
from tests.helpers import ROOT
from tests.helpers.http_server import Request, Server, noise, serving

REPO = ROOT
SHARED = Path(os.environ.get("S2PEC_SHARED", REPO.parent / "shared"))


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were asked for; nobody waits for them."""
    asked: list[float] = []
    monkeypatch.setattr("s2pecnet.download.download.__defaults__", (asked.append, None), raising=True)
    return asked


# ---------------------------------------------------------------------------------- the download


def test_a_quiet_download_is_one_request(server: Server, tmp_path: Path) -> None:
    server.data = noise(300_000)
    download(server.url, tmp_path / "new" / "LA.zip")
    assert (tmp_path / "new" / "LA.zip").read_bytes() == server.data
    assert os.listdir(tmp_path / "new") == ["LA.zip"]
    assert len(server.requests) == 1


def test_dropped_connections_are_resumed_at_the_byte(server: Server, tmp_path: Path, pauses: list[float]) -> None:
    server.data, server.drop_after = noise(100_000), [10_000, 1, 70_000]
    download(server.url, tmp_path / "LA.zip")
    assert (tmp_path / "LA.zip").read_bytes() == server.data
    assert server.sent == 100_000, "no byte is fetched twice"
    assert [request.range for request in server.requests] == [
        None,
        "bytes=10000-",
        "bytes=10001-",
        "bytes=80001-",
    ]
    assert all(request.if_range == '"one"' for request in server.requests[1:])
    assert pauses == [1, 1, 1], "progress resets the pause"


def test_a_download_cut_at_many_places_is_complete(server: Server, tmp_path: Path) -> None:
    """Twenty-five cuts over one download, some before the first byte of an answer, some near the end."""
    server.data = zipped({**tiny_corpus(), "noise.bin": noise(400_000)})
    draw = random.Random(11)
    places = [*sorted(draw.sample(range(1, len(server.data) - 1), 22)), len(server.data) - 1]
    server.drop_after = [after - before for before, after in itertools.pairwise([0, *places])]
    for place in draw.sample(range(len(places)), 2):
        server.drop_after.insert(place, 0)
    cuts, sha256 = len(server.drop_after), hashlib.sha256(server.data).hexdigest()
    fetch(server.url, tmp_path, sha256=sha256, keep_archive=True)
    assert hashlib.sha256((tmp_path / "LA.zip").read_bytes()).hexdigest() == sha256
    assert cuts == 25
    assert len(server.requests) == cuts + 1
    assert server.sent == len(server.data), "no byte is fetched twice"
    assert check_tree(tmp_path / "LA").complete


def test_a_download_cut_and_changed_at_random_is_one_of_the_files(server: Server, tmp_path: Path) -> None:
    """The file at the server is replaced between the tries, by servers of many kinds."""
    for seed in range(30):
        draw = random.Random(seed)
        versions = [noise(draw.choice([20_000, 30_000]), seed=number) for number in range(4)]
        server.honours_if_range, server.ranges = draw.random() < 0.5, draw.random() < 0.8
        server.announces_length = draw.random() < 0.8
        server.data, server.etag = versions[0], '"0"'
        server.changes = [(data, f'"{number}"') for number, data in enumerate(versions)][1:]
        server.drop_after = [draw.randrange(20_000) for _ in range(4)]
        archive = tmp_path / f"{seed}.zip"
        with contextlib.suppress(InputError):
            download(server.url, archive)
        if not archive.exists():
            # An answer without a length that is cut off looks whole; one with a length never does.
            server.drop_after, server.changes = [], []
            download(server.url, archive)
        if server.announces_length:
            assert archive.read_bytes() in versions


@pytest.mark.parametrize("lie", ["9" * 5000, "-1", "1e3", "0x10", "1000000000000000000000"])
def test_a_length_that_is_no_number(server: Server, tmp_path: Path, lie: str) -> None:
    server.data, server.headers["Content-Length"] = zipped(tiny_corpus()), lie
    fetch(server.url, tmp_path)
    assert check_tree(tmp_path / "LA").complete


def test_a_length_that_is_too_short_is_found_by_the_archive(server: Server, tmp_path: Path) -> None:
    server.data = zipped(tiny_corpus())
    server.headers["Content-Length"] = str(len(server.data) - 100)
    with pytest.raises(InputError, match="damaged or not a zip"):
        fetch(server.url, tmp_path)
    assert not (tmp_path / "LA").exists()


def test_a_length_that_is_too_long_is_a_dropped_connection(server: Server, tmp_path: Path) -> None:
    server.data = noise(1_000)
    server.headers["Content-Length"] = "1001"
    with pytest.raises(InputError, match="gave up after 6 attempts without progress"):
        download(server.url, tmp_path / "LA.zip")
    assert not (tmp_path / "LA.zip").exists()


def test_a_length_that_no_disk_has_is_reported_before_a_byte_is_written(server: Server, tmp_path: Path) -> None:
    server.data = noise(1_000)
    server.headers["Content-Length"] = str(10**17)
    with pytest.raises(InputError, match="GB are needed for the rest"):
        download(server.url, tmp_path / "LA.zip")
    assert (tmp_path / "LA.zip.part").stat().st_size == 0


@pytest.mark.parametrize(
    "place",
    ["bytes 0-9999/10000", "bytes 4999-9999/10000", "bytes 5000-9999/20000", "5000-", f"bytes {'9' * 5000}-1/2"],
)
def test_a_part_of_another_place_is_not_appended(server: Server, tmp_path: Path, place: str) -> None:
    server.data, server.drop_after = noise(10_000), [5_000]
    server.headers["Content-Range"] = place
    with contextlib.suppress(InputError):
        download(server.url, tmp_path / "LA.zip")
    archive = tmp_path / "LA.zip"
    assert not archive.exists() or archive.read_bytes() == server.data


def test_words_of_the_server_stay_on_one_line(server: Server, tmp_path: Path) -> None:
    server.redirects = True
    with pytest.raises(InputError, match="the server answered 302") as caught:
        download(server.url, tmp_path / "LA.zip")
    assert "\n" not in str(caught.value)


def test_a_second_run_resumes_where_the_first_was_stopped(server: Server, tmp_path: Path) -> None:
    server.data, server.drop_after = noise(50_000), [20_000] + [0] * ATTEMPTS
    with pytest.raises(InputError, match="run again to resume"):
        download(server.url, tmp_path / "LA.zip")
    assert not (tmp_path / "LA.zip").exists()
    server.drop_after = []
    download(server.url, tmp_path / "LA.zip")
    assert (tmp_path / "LA.zip").read_bytes() == server.data
    assert server.sent == 50_000


def test_without_progress_it_gives_up_after_longer_and_longer_pauses(
    server: Server, tmp_path: Path, pauses: list[float]
) -> None:
    server.statuses = [503] * 99
    with pytest.raises(InputError, match="503"):
        download(server.url, tmp_path / "LA.zip")
    assert len(server.requests) == ATTEMPTS
    assert pauses == [2.0**k for k in range(ATTEMPTS - 1)]


def test_a_server_that_ignores_ranges_and_always_drops_does_not_keep_us(server: Server, tmp_path: Path) -> None:
    server.data, server.ranges, server.drop_after = noise(9_000), False, [5_000] * 99
    with pytest.raises(InputError, match="byte 5,000 of 9,000"):
        download(server.url, tmp_path / "LA.zip")
    assert len(server.requests) == ATTEMPTS


def test_a_server_that_ignores_ranges_is_downloaded_again(server: Server, tmp_path: Path) -> None:
    server.data, server.ranges, server.drop_after = noise(9_000), False, [5_000, 7_000]
    download(server.url, tmp_path / "LA.zip")
    assert (tmp_path / "LA.zip").read_bytes() == server.data


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_a_passing_refusal_is_tried_again(server: Server, tmp_path: Path, status: int) -> None:
    server.data, server.statuses = noise(10), [status, status]
    download(server.url, tmp_path / "LA.zip")
    assert (tmp_path / "LA.zip").read_bytes() == server.data


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_final_refusal_is_not_tried_again(server: Server, tmp_path: Path, status: int) -> None:
    server.statuses = [status]
    with pytest.raises(InputError, match=str(status)):
        download(server.url, tmp_path / "LA.zip")
    assert len(server.requests) == 1


def test_nobody_listens(tmp_path: Path, pauses: list[float]) -> None:
    with Server() as gone:
        url = gone.url
    with pytest.raises(InputError, match="connection failed"):
        download(url, tmp_path / "LA.zip")
    assert len(pauses) == ATTEMPTS - 1


@pytest.mark.parametrize("honours_if_range", [True, False])
@pytest.mark.parametrize("size", [40_000, 30_000, 10_000], ids=["same size", "smaller", "less than the part"])
def test_a_file_that_changed_is_never_spliced(
    server: Server, tmp_path: Path, honours_if_range: bool, size: int
) -> None:
    server.data, server.drop_after = noise(40_000, seed=1), [20_000] + [0] * ATTEMPTS
    with pytest.raises(InputError):
        download(server.url, tmp_path / "LA.zip")
    server.data, server.etag, server.drop_after = noise(size, seed=2), '"two"', []
    server.honours_if_range = honours_if_range
    download(server.url, tmp_path / "LA.zip")
    assert (tmp_path / "LA.zip").read_bytes() == server.data


def test_a_weak_etag_is_not_used_where_there_is_a_date(server: Server, tmp_path: Path) -> None:
    server.data, server.drop_after = noise(1_000), [500]
    server.etag, server.date = 'W/"one"', "Mon, 01 Jan 2024 00:00:00 GMT"
    download(server.url, tmp_path / "LA.zip")
    assert server.requests[1] == Request("bytes=500-", server.date)


def test_without_etag_and_date_the_length_decides(server: Server, tmp_path: Path) -> None:
    server.etag, server.data, server.drop_after = None, noise(1_000), [500] + [0] * ATTEMPTS
    with pytest.raises(InputError):
        download(server.url, tmp_path / "LA.zip")
    server.data, server.drop_after = noise(1_001, seed=2), []
    download(server.url, tmp_path / "LA.zip")
    assert (tmp_path / "LA.zip").read_bytes() == server.data


@pytest.mark.parametrize("notes", [None, "", "[]", "{}", '{"url": 1, "validator": 2, "length": "x"}'])
def test_a_part_without_sound_notes_is_not_trusted(server: Server, tmp_path: Path, notes: str | None) -> None:
    server.data = noise(1_000)
    (tmp_path / "LA.zip.part").write_bytes(b"x" * 400)
    if notes is not None:
        (tmp_path / "LA.zip.part.json").write_text(notes)
    download(server.url, tmp_path / "LA.zip")
    assert (tmp_path / "LA.zip").read_bytes() == server.data


def test_a_part_of_another_address_is_not_trusted(server: Server, tmp_path: Path) -> None:
    server.data = noise(1_000)
    (tmp_path / "LA.zip.part").write_bytes(b"x" * 400)
    (tmp_path / "LA.zip.part.json").write_text(
        json.dumps({"url": "http://elsewhere/LA.zip", "validator": '"one"', "length": 1_000})
    )
    download(server.url, tmp_path / "LA.zip")
    assert (tmp_path / "LA.zip").read_bytes() == server.data


@pytest.mark.parametrize("have", [1_000, 1_400])
def test_a_part_that_is_complete_or_too_long(server: Server, tmp_path: Path, have: int) -> None:
    server.data = noise(1_000)
    (tmp_path / "LA.zip.part").write_bytes((server.data + b"x" * 400)[:have])
    (tmp_path / "LA.zip.part.json").write_text(json.dumps({"url": server.url, "validator": '"one"', "length": 1_000}))
    download(server.url, tmp_path / "LA.zip")
    assert (tmp_path / "LA.zip").read_bytes() == server.data
    assert len(server.requests) == (0 if have == 1_000 else 1)


def test_a_length_that_is_not_announced(server: Server, tmp_path: Path) -> None:
    server.data, server.announces_length = noise(1_000), False
    download(server.url, tmp_path / "LA.zip")
    assert (tmp_path / "LA.zip").read_bytes() == server.data


def lend_disk(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    usage = shutil.disk_usage("/")._replace(free=free)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)


def test_a_full_disk_is_reported_before_the_download(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.data = noise(1_000)
    lend_disk(monkeypatch, 999)
    with pytest.raises(InputError, match="GB free"):
        download(server.url, tmp_path / "LA.zip")
    assert (tmp_path / "LA.zip.part").stat().st_size == 0


# ---------------------------------------------------------------------------------- the checksum


def test_a_checksum_is_recorded_once_and_verified_from_then_on(tmp_path: Path) -> None:
    archive = tmp_path / "LA.zip"
    archive.write_bytes(b"abc")
    digest = hashlib.sha256(b"abc").hexdigest()
    assert verify_checksum(archive) == digest
    assert (tmp_path / "LA.zip.sha256").read_text() == f"{digest}  LA.zip\n"
    assert verify_checksum(archive, digest.upper()) == digest
    archive.write_bytes(b"abd")
    with pytest.raises(InputError, match=r"LA\.zip\.sha256 says"):
        verify_checksum(archive)


def test_a_given_checksum_is_decisive(tmp_path: Path) -> None:
    archive = tmp_path / "LA.zip"
    archive.write_bytes(b"abc")
    with pytest.raises(InputError, match="--sha256 says"):
        verify_checksum(archive, "0" * 64)
    assert not (tmp_path / "LA.zip.sha256").exists(), "a checksum that is in doubt is not recorded"


@pytest.mark.parametrize("text", ["", "abc", "g" * 64])
def test_something_that_is_no_checksum(tmp_path: Path, text: str) -> None:
    (tmp_path / "LA.zip").write_bytes(b"abc")
    (tmp_path / "LA.zip.sha256").write_text(text)
    with pytest.raises(InputError, match="64 hexadecimal digits"):
        verify_checksum(tmp_path / "LA.zip")
    with pytest.raises(InputError, match="64 hexadecimal digits"):
        fetch("http://127.0.0.1:9/LA.zip", tmp_path, sha256=text)


# ---------------------------------------------------------------------------------- the archive


def tiny_corpus(track: str = "LA") -> dict[str, bytes]:
    """The files of a corpus of two trials a split, by path below its folder."""
    files: dict[str, bytes] = {}
    for split, ending in (("train", "train.trn"), ("dev", "dev.trl"), ("eval", "eval.trl")):
        lines = ""
        for number, (attack, key) in enumerate((("-", "bonafide"), ("A01", "spoof"))):
            name = f"{track}_{split[0].upper()}_{number}"
            files[f"ASVspoof2019_{track}_{split}/flac/{name}.flac"] = noise(200, number)
            lines += f"{track}_0001 {name} - {attack} {key}\n"
        files[f"ASVspoof2019_{track}_cm_protocols/ASVspoof2019.{track}.cm.{ending}.txt"] = lines.encode()
        if split != "train":
            scores = f"ASVspoof2019_{track}_asv_scores/ASVspoof2019.{track}.asv.{split}.gi.trl.scores.txt"
            files[scores] = b"- target 1.0\n"
    return files


def zipped(files: dict[str, bytes], top: str = "LA/", compression: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(top + name, data)
    return stream.getvalue()


def planted(root: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def archive_with(tmp_path: Path, member: zipfile.ZipInfo | str, data: bytes = b"x") -> Path:
    """A sound archive with one more member."""
    path = tmp_path / "LA.zip"
    path.write_bytes(zipped(tiny_corpus()))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(member, data)
    return path


def refused(archive: Path, message: str) -> None:
    """`unpack` refuses the archive with `message`, and leaves the folder as it was."""
    folder = archive.parent
    before = sorted(folder.iterdir())
    with pytest.raises(InputError, match=message):
        unpack(archive, folder / "LA")
    assert sorted(folder.iterdir()) == before


def test_a_sound_archive_is_unpacked(tmp_path: Path) -> None:
    (tmp_path / "LA.zip").write_bytes(zipped(tiny_corpus(), compression=zipfile.ZIP_DEFLATED))
    unpack(tmp_path / "LA.zip", tmp_path / "LA")
    root = tmp_path / "LA"
    found = {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}
    assert found == tiny_corpus()
    assert sorted(os.listdir(tmp_path)) == ["LA", "LA.zip"]


@pytest.mark.parametrize(
    "name",
    [
        "../x",
        "LA/../../x",
        "/etc/x",
        "C:/x",
        "C:x",
        "c:\\x",
        "\\x",
        "LA\\..\\x",
        "LA//x",
        "LA/./x",
        "LA/..",
        "..",
        "../",
        "LA/../",
        "//host/x",
        "\\\\host\\x",
        "/",
        "./x",
        "LA/../../../../../../../../tmp/x",
        "LA/x/../../../x",
    ],
)
def test_a_name_that_leads_outside_is_refused(tmp_path: Path, name: str) -> None:
    refused(archive_with(tmp_path, name), re.escape(repr(name)))


@pytest.mark.parametrize("name", ["LA/x\0.flac", "LA/x\0/../../y", "LA/\0"])
def test_a_name_with_a_nul_is_refused(tmp_path: Path, name: str) -> None:
    """Python writes the name without what is behind the NUL, so it is put into the bytes."""
    path = archive_with(tmp_path, name.replace("\0", "\1"))
    path.write_bytes(path.read_bytes().replace(name.replace("\0", "\1").encode(), name.encode()))
    refused(path, "has an absolute or foreign path")


def test_a_link_and_what_would_go_through_it_are_refused(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    link = zipfile.ZipInfo("LA/door")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    path = archive_with(tmp_path, link, str(outside).encode())
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("LA/door/x", b"x")
    refused(path, "is a link or a special file")
    assert not list(outside.iterdir())


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_special_files_are_refused(tmp_path: Path, kind: int) -> None:
    member = zipfile.ZipInfo("LA/link")
    member.create_system = 3
    member.external_attr = (kind | 0o777) << 16
    refused(archive_with(tmp_path, member, b"/etc"), "'LA/link' is a link or a special file")


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", ["LA/ASVspoof2019_LA_dev/flac/LA_D_0.flac", "la/asvspoof2019_la_dev/FLAC/LA_D_0.flac"])
def test_a_name_that_is_there_twice_is_refused(tmp_path: Path, name: str) -> None:
    refused(archive_with(tmp_path, name), "is there twice")


@pytest.mark.parametrize("name", ["LA/ASVspoof2019_LA_dev", "LA/ASVspoof2019_LA_dev/flac/LA_D_0.flac/x"])
def test_a_file_that_is_also_a_folder_is_refused(tmp_path: Path, name: str) -> None:
    refused(archive_with(tmp_path, name), "both a file and a folder")


def test_overlapping_members_are_refused(tmp_path: Path) -> None:
    path = archive_with(tmp_path, "LA/bulk", noise(60_000))
    data = bytearray(path.read_bytes())
    directory = data.rfind(b"LA/bulk")
    entry = bytes(data[directory - 46 : directory + 7])
    second = entry[:-1] + b"l"  # LA/bull, on the bytes of LA/bulk
    end = data.rfind(b"PK\5\6")
    total = int.from_bytes(data[end + 10 : end + 12], "little") + 1
    size = int.from_bytes(data[end + 12 : end + 16], "little") + len(second)
    data[end + 8 : end + 12] = total.to_bytes(2, "little") * 2
    data[end + 12 : end + 16] = size.to_bytes(4, "little")
    path.write_bytes(bytes(data[:end]) + second + bytes(data[end:]))
    refused(path, "overlap")


def test_a_flipped_byte_is_found(tmp_path: Path) -> None:
    data = bytearray(zipped(tiny_corpus()))
    data[data.find(noise(200, 1)) + 100] ^= 1
    (tmp_path / "LA.zip").write_bytes(data)
    refused(tmp_path / "LA.zip", r"damaged.*CRC")


@pytest.mark.parametrize("kept", [0, 10, 0.5, 0.95, 0.999])
def test_a_truncated_archive_is_found(tmp_path: Path, kept: float) -> None:
    data = zipped(tiny_corpus())
    (tmp_path / "LA.zip").write_bytes(data[: int(kept if kept >= 1 else kept * len(data))])
    refused(tmp_path / "LA.zip", "damaged or not a zip")


def test_a_bomb_writes_no_more_than_it_announces(tmp_path: Path) -> None:
    """A hundred megabytes of zeros that announce ten bytes."""
    path = tmp_path / "LA.zip"
    path.write_bytes(zipped({**tiny_corpus(), "zeros": bytes(100_000_000)}, compression=zipfile.ZIP_DEFLATED))
    data = bytearray(path.read_bytes())
    assert len(data) < 200_000
    entry = data.rfind(b"LA/zeros") - 46
    data[entry + 24 : entry + 28] = (10).to_bytes(4, "little")
    path.write_bytes(data)
    largest = file_size_limit(tmp_path, 1_000_000)
    done = largest(f"unpack(Path({str(path)!r}), Path({str(tmp_path / 'LA')!r}))")
    assert done.returncode == 2
    assert "damaged or not a zip" in done.stderr
    assert os.listdir(tmp_path) == ["LA.zip"]


def test_a_bomb_with_its_size_is_refused_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "LA.zip"
    files = {f"zeros{number}": bytes(10_000_000) for number in range(3)}
    path.write_bytes(zipped({**tiny_corpus(), **files}, compression=zipfile.ZIP_DEFLATED))
    lend_disk(monkeypatch, 20_000_000)
    refused(path, "0.03 GB are needed to unpack")


def file_size_limit(folder: Path, limit: int) -> Callable[[str], "subprocess.CompletedProcess[str]"]:
    """Runs a line of code in a process that can write no file larger than `limit` bytes, which is a full disk to it."""

    def execute(line: str) -> "subprocess.CompletedProcess[str]":
        code = "\n".join(
            [
                "import resource, signal",
                "from pathlib import Path",
                "from s2pecnet.corpora.download import download",
                "from s2pecnet.corpora.archive import unpack",
                "from s2pecnet.cli.command import run_command",
                "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)",
                f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))",
                f"run_command(lambda: {line})",
            ]
        )
        return subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True)

    return execute


def test_a_disk_that_fills_while_unpacking_leaves_nothing_half_made(tmp_path: Path) -> None:
    (tmp_path / "LA.zip").write_bytes(zipped({**tiny_corpus(), "bulk": noise(300_000)}))
    limited = file_size_limit(tmp_path, 100_000)
    done = limited(f"unpack(Path({str(tmp_path / 'LA.zip')!r}), Path({str(tmp_path / 'LA')!r}))")
    assert done.returncode == 2
    assert done.stderr == f"error: {tmp_path / '.LA.unpacking' / 'LA' / 'bulk'}: File too large\n"
    assert os.listdir(tmp_path) == ["LA.zip"]


def test_a_disk_that_fills_while_downloading_keeps_what_is_there(server: Server, tmp_path: Path) -> None:
    server.data = noise(300_000)
    limited = file_size_limit(tmp_path, 100_000)
    done = limited(f"download({server.url!r}, Path({str(tmp_path / 'LA.zip')!r}))")
    assert done.returncode == 2
    assert done.stderr == f"error: {tmp_path / 'LA.zip.part'}: File too large\n"
    download(server.url, tmp_path / "LA.zip")
    assert (tmp_path / "LA.zip").read_bytes() == server.data
    assert server.requests[-1].range == "bytes=100000-"


@pytest.mark.parametrize("announced", [10, 900_000])
def test_a_member_with_another_size_than_announced_is_found(tmp_path: Path, announced: int) -> None:
    path = tmp_path / "LA.zip"
    path.write_bytes(zipped({**tiny_corpus(), "zeros": bytes(50_000)}, compression=zipfile.ZIP_DEFLATED))
    data = bytearray(path.read_bytes())
    entry = data.rfind(b"LA/zeros") - 46
    assert int.from_bytes(data[entry + 24 : entry + 28], "little") == 50_000
    data[entry + 24 : entry + 28] = announced.to_bytes(4, "little")
    path.write_bytes(data)
    refused(path, "damaged")


def test_a_disk_too_small_is_reported_before_unpacking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "LA.zip").write_bytes(zipped(tiny_corpus()))
    lend_disk(monkeypatch, 1_000)
    refused(tmp_path / "LA.zip", "GB free")


def test_an_archive_without_the_complete_corpus_is_refused(tmp_path: Path) -> None:
    files = tiny_corpus()
    del files["ASVspoof2019_LA_dev/flac/LA_D_0.flac"]
    (tmp_path / "LA.zip").write_bytes(zipped(files))
    refused(tmp_path / "LA.zip", r"not hold a complete corpus LA .*LA_D_0\.flac")
    (tmp_path / "LA.zip").write_bytes(zipped(tiny_corpus(), top="other/"))
    refused(tmp_path / "LA.zip", "not hold a complete corpus LA")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_an_interrupted_unpacking_leaves_no_tree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    (tmp_path / "LA.zip").write_bytes(zipped(tiny_corpus()))
    whole, calls = archive_module._unpack_member, []

    def interrupted(source: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> None:
        calls.append(path)
        if len(calls) == 4:
            raise error
        whole(source, member, path)

    monkeypatch.setattr(archive_module, "_unpack_member", interrupted)
    with pytest.raises(type(error)):
        unpack(tmp_path / "LA.zip", tmp_path / "LA")
    assert os.listdir(tmp_path) == ["LA.zip"]


def test_what_a_killed_unpacking_left_is_cleared_away(tmp_path: Path) -> None:
    planted(tmp_path / ".LA.unpacking", {"LA/stray.flac": b"x"})
    (tmp_path / "LA.zip").write_bytes(zipped(tiny_corpus()))
    unpack(tmp_path / "LA.zip", tmp_path / "LA")
    assert not list(tmp_path.rglob("stray.flac"))


# ---------------------------------------------------------------------------------- the check


def test_a_complete_tree_is_complete(tmp_path: Path) -> None:
    report = check_tree(planted(tmp_path, tiny_corpus()))
    assert report.complete
    assert report.facts[0] == (
        "LA train: 2 trials (1 bona fide, 1 spoof); 2 files on disk, 0 of them not in the protocol"
    )
    assert report.facts[-1] == "LA: not the full ASVspoof2019 LA (25,380 / 24,844 / 71,237)"


def test_the_full_corpus_is_recognised_by_its_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(check.FULL_CORPORA, "ASVspoof2019 LA", (2, 2, 2))
    assert check_tree(planted(tmp_path, tiny_corpus())).facts[-1].startswith("LA: the full ASVspoof2019 LA")


def test_missing_and_empty_files_are_counted_and_some_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = planted(tmp_path, tiny_corpus())
    flac = root / "ASVspoof2019_LA_eval" / "flac"
    (flac / "LA_E_0.flac").unlink()
    (flac / "LA_E_1.flac").write_bytes(b"")
    shutil.rmtree(root / "ASVspoof2019_LA_dev")
    assert check_tree(root).problems == [
        f"{root / 'ASVspoof2019_LA_dev' / 'flac'}: 2 of 2 files missing: LA_D_0.flac, LA_D_1.flac",
        f"{flac}: 1 of 2 files missing: LA_E_0.flac",
        f"{flac}: 1 of 2 files empty (0 bytes): LA_E_1.flac",
    ]
    assert main(["--check", str(root)]) == 2
    assert capsys.readouterr().err.count("\n") == 3, "one line per problem"


def test_many_missing_files_are_not_all_named() -> None:
    assert check._some_of(list("abcde")) == "a, b, c and 2 more"


def test_files_without_a_trial_and_missing_asv_scores_are_no_problem(tmp_path: Path) -> None:
    root = planted(tmp_path, tiny_corpus())
    (root / "ASVspoof2019_LA_dev" / "flac" / "enrolment.flac").write_bytes(b"x")
    shutil.rmtree(root / "ASVspoof2019_LA_asv_scores")
    report = check_tree(root)
    assert report.complete
    assert any("3 files on disk, 1 of them not in the protocol" in fact for fact in report.facts)
    assert sum("no ASV scores" in fact for fact in report.facts) == 2


def test_protocols_that_are_missing_or_malformed(tmp_path: Path) -> None:
    root = planted(tmp_path, tiny_corpus())
    protocols = root / "ASVspoof2019_LA_cm_protocols"
    (protocols / "ASVspoof2019.LA.cm.dev.trl.txt").unlink()
    (protocols / "ASVspoof2019.LA.cm.eval.trl.txt").write_text("LA_0001 LA_E_0 - - genuine\n")
    missing, malformed = check_tree(root).problems
    assert "dev.trl.txt: no such protocol" in missing
    assert "eval.trl.txt:1:" in malformed


def test_every_track_in_the_folder_is_checked(tmp_path: Path) -> None:
    root = planted(planted(tmp_path, tiny_corpus("LA")), tiny_corpus("PA"))
    (root / "ASVspoof2019_PA_train" / "flac" / "PA_T_0.flac").unlink()
    assert len(check_tree(root).problems) == 1
    assert sum(fact.startswith("LA ") for fact in check_tree(root).facts) == 3


def test_a_folder_that_is_no_corpus(tmp_path: Path) -> None:
    assert "no such folder" in check_tree(tmp_path / "nowhere").problems[0]
    planted(tmp_path / "LA", tiny_corpus())
    assert f"did you mean {tmp_path / 'LA'}?" in check_tree(tmp_path).problems[0]


@pytest.mark.skipif(
    not (SHARED / "minila" / "LA").is_dir(), reason=f"no small real corpus at {SHARED / 'minila' / 'LA'}"
)
def test_the_small_real_corpus_is_complete() -> None:
    report = check_tree(SHARED / "minila" / "LA")
    assert report.problems == []
    assert report.facts[2].startswith("LA eval: 520 trials (130 bona fide, 390 spoof)")


# ---------------------------------------------------------------------------------- the command line


def run(*arguments: str, cwd: Path = REPO) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(REPO / "download_dataset.py"), *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
    )


def test_fetch_from_the_first_byte_to_the_complete_tree_and_again(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.data = zipped(tiny_corpus())
    assert main(["--url", server.url, "--out", str(tmp_path)]) == 0
    assert check_tree(tmp_path / "LA").complete
    assert sorted(os.listdir(tmp_path)) == [".LA.zip.lock", "LA", "LA.zip.sha256"]
    assert main(["--url", server.url, "--out", str(tmp_path)]) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert len(server.requests) == 1


def test_a_kept_archive_is_not_fetched_again(server: Server, tmp_path: Path) -> None:
    server.data = zipped(tiny_corpus())
    fetch(server.url, tmp_path, keep_archive=True)
    shutil.rmtree(tmp_path / "LA")
    fetch(server.url, tmp_path, keep_archive=True)
    assert len(server.requests) == 1
    assert (tmp_path / "LA.zip").exists()


def test_a_wrong_checksum_leaves_the_archive_and_unpacks_nothing(server: Server, tmp_path: Path) -> None:
    server.data = zipped(tiny_corpus())
    with pytest.raises(InputError, match="its SHA-256 is"):
        fetch(server.url, tmp_path, sha256="0" * 64)
    assert sorted(os.listdir(tmp_path)) == [".LA.zip.lock", "LA.zip"]


def test_a_target_that_is_not_complete_is_not_touched(server: Server, tmp_path: Path) -> None:
    planted(tmp_path / "LA", {"thesis.tex": b"years of work"})
    with pytest.raises(InputError, match="move it away or delete it"):
        fetch(server.url, tmp_path)
    assert server.requests == []
    assert (tmp_path / "LA" / "thesis.tex").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("--check", "a", "--demo"),
        ("--seed", "1"),
        ("--shuffle-labels",),
        ("--check", "a", "--sha256", "0" * 64),
        ("--demo", "--out", "a"),
        ("--demo", "--seed", "one"),
        ("--url", "ftp://host/LA.zip"),
        ("--url", "http://host/LA.tar"),
        ("--url", "http://host/..zip"),
        ("--url", "http://[host/LA.zip"),
        ("--sha256", "short"),
        ("stray",),
        ("--che", "a"),
    ],
)
def test_bad_options_are_refused(arguments: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.raises(InputError):
        main(list(arguments))


def test_bad_input_is_one_line_and_status_2(server: Server, tmp_path: Path) -> None:
    server.statuses = [404]
    for arguments in (("--url", server.url, "--out", str(tmp_path)), ("--seed", "1")):
        done = run(*arguments)
        assert done.returncode == 2
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1, done.stderr


def test_help_has_examples() -> None:
    done = run("--help")
    assert done.returncode == 0
    assert "examples:" in done.stdout
    assert "--shuffle-labels" in done.stdout


def test_the_demo_is_made_checked_and_reused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("s2pecnet.corpora.demo.DEFAULT_CLIPS", {"train": 6, "dev": 6, "eval": 6})
    monkeypatch.chdir(tmp_path)
    assert main(["--demo", "--seed", "5"]) == 0
    assert main(["--check", "demo_corpus/LA"]) == 0
    assert main(["--demo", "demo_corpus/LA", "--seed", "5"]) == 0
    with pytest.raises(InputError, match="other options"):
        main(["--demo", "--seed", "5", "--shuffle-labels"])


# ---------------------------------------------------------------------------------- what a stranger's server may not do


def test_two_downloads_into_one_folder_wait_for_each_other(server: Server, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(tree(tmp_path / "made"), "LA/x")
    server.data = (tmp_path / "a.zip").read_bytes()
    errors: list[str] = []

    def run() -> None:
        try:
            fetch(server.url, tmp_path / "out", keep_archive=True)
        except InputError as error:
            errors.append(str(error))

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "out" / "LA.zip").read_bytes() == server.data
    assert len(server.requests) == 1
    assert all("does not hold a complete corpus" in error for error in errors)


def tree(folder: Path) -> Path:
    folder.mkdir()
    (folder / "x").write_bytes(noise(100_000))
    return folder / "x"


def test_a_member_that_unpacks_to_many_times_its_size_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "LA.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("LA/zeros.bin", bytes(32 << 20))
    with pytest.raises(InputError, match=r"unpacks to 33,554,432 bytes, more than 20 times its size: no audio does"):
        unpack(tmp_path / "LA.zip", tmp_path / "LA")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["LA.zip"]


def test_a_redirect_from_https_to_http_is_not_followed() -> None:
    request = urllib.request.Request("https://example.org/LA.zip")
    handler = download_module._StaysSecure()
    with pytest.raises(InputError, match=r"redirects to http://example.org/x, which is not https; not followed"):
        handler.redirect_request(request, None, 302, "Found", http.client.HTTPMessage(), "http://example.org/x")
    same = handler.redirect_request(request, io.BytesIO(), 302, "Found", http.client.HTTPMessage(), "https://e.org/x")
    assert same.full_url == "https://e.org/x"


def test_endless_100_continue_ends(tmp_path: Path) -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(1)

        def answer() -> None:
            connection, _ = listening.accept()
            with connection, contextlib.suppress(OSError):
                for _ in range(1000):
                    connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" * 50)

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(InputError, match="the server answers '100 Continue' without end"):
            download(f"http://127.0.0.1:{listening.getsockname()[1]}/LA.zip", tmp_path / "LA.zip")
        thread.join()
