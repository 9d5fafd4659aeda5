"""Published weights: found by name, fetched once, checked, kept; nothing of a wrong file stays."""

import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from s2pecnet.cli.weights import main
from s2pecnet.config.experiment import Config, load_config
from s2pecnet.errors import InputError
from s2pecnet.systems import published
from s2pecnet.systems.published import PUBLISHED, PublishedWeights, fetch_weights, find_weights, git_digest_of
from tests.helpers.http_server import Server, noise, serving

CONTENT = noise(300_000)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    """A mirror with the files of two made-up systems; weights are kept below `tmp_path`."""
    with serving() as running:
        running.data = CONTENT
        monkeypatch.setenv("S2PEC_WEIGHTS_MIRROR", running.url.rpartition("/")[0])
        monkeypatch.delenv("S2PEC_OFFLINE", raising=False)
        monkeypatch.setattr("s2pecnet.download.download.__defaults__", (lambda seconds: None, None))
        monkeypatch.setattr(published, "weights_folder", lambda: tmp_path / "kept")
        digest = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
        monkeypatch.setitem(
            PUBLISHED, "AASIST", PublishedWeights("AASIST", "http://x/AASIST.pth", 300_000, digest, "MIT")
        )
        blob = f"git:{hashlib.sha1(b'blob 300000' + bytes(1) + CONTENT).hexdigest()}"
        monkeypatch.setitem(
            PUBLISHED, "S2pecNet", PublishedWeights("S2pecNet", "http://x/S2.pth", None, blob, "MIT", "so")
        )
        yield running


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """config/AASIST.conf, seen from a folder where no weights are."""
    monkeypatch.chdir(tmp_path)
    return load_config("AASIST")


@pytest.mark.parametrize("name", ["AASIST", "S2pecNet"])
def test_a_file_is_fetched_once_and_kept(server: Server, name: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    path = fetch_weights(name)
    assert path.read_bytes() == CONTENT
    assert server.url.rpartition("/")[0] in caplog.text
    assert "licence: MIT" in caplog.text
    assert fetch_weights(name) == path
    assert len(server.requests) == 1


@pytest.mark.parametrize("given", [None, "AASIST", "./models/weights/AASIST.pth"])
def test_weights_are_found_by_the_config_by_name_and_by_their_usual_path(
    server: Server, config: Config, given: str | None
) -> None:
    assert find_weights(given, config).read_bytes() == CONTENT


def test_a_file_that_is_there_is_taken(server: Server, config: Config, tmp_path: Path) -> None:
    own = tmp_path / "models" / "weights" / "AASIST.pth"
    own.parent.mkdir(parents=True)
    own.write_bytes(b"mine")
    assert find_weights(None, config).resolve() == own
    assert not server.requests


def test_a_cut_download_is_resumed(server: Server) -> None:
    server.drop_after = [100_000, 50_000]
    assert fetch_weights("AASIST").read_bytes() == CONTENT
    assert [request.range for request in server.requests] == [None, "bytes=100000-", "bytes=150000-"]


@pytest.mark.parametrize("name", ["AASIST", "S2pecNet"])
@pytest.mark.parametrize("wrong", [CONTENT[:-1] + b"x", CONTENT[:-1], CONTENT + b"x", b""])
def test_nothing_of_a_wrong_file_stays(server: Server, tmp_path: Path, name: str, wrong: bytes) -> None:
    server.data = wrong
    with pytest.raises(InputError, match=r"not the published|is not the file"):
        fetch_weights(name)
    assert [path.name for path in (tmp_path / "kept").iterdir() if not path.name.endswith(".lock")] == []


def test_an_endless_answer_ends(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published, "LARGEST", 1000)
    server.announces_length = False
    with pytest.raises(InputError, match="sends more than 1,000 bytes"):
        fetch_weights("S2pecNet")


def test_a_damaged_file_that_is_kept_is_not_used(server: Server) -> None:
    path = fetch_weights("AASIST")
    path.write_bytes(CONTENT[::-1])
    with pytest.raises(InputError, match=r"not the published AASIST\.pth \(its SHA-256 differs\); delete it"):
        fetch_weights("AASIST")


def test_offline_says_the_command(server: Server, config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S2PEC_OFFLINE", "1")
    with pytest.raises(
        InputError, match="S2PEC_OFFLINE is set; where there is a network run `s2pecnet weights AASIST`"
    ):
        find_weights(None, config)
    assert not server.requests


def test_without_a_network_it_is_one_line(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S2PEC_WEIGHTS_MIRROR", "http://127.0.0.1:9")
    with pytest.raises(
        InputError, match=r"gave up after 6 attempts.*; or put the file at .*AASIST.pth, or set S2PEC_W"
    ):
        fetch_weights("AASIST")


def test_two_at_once_fetch_one_file(server: Server) -> None:
    threads = [threading.Thread(target=fetch_weights, args=("AASIST",)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert fetch_weights("AASIST").read_bytes() == CONTENT
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("AASIT", "AASIT: no such checkpoint; published weights are called by name alone: AASIST"),
        ("elsewhere/AASIST.pth", "elsewhere/AASIST.pth: no such checkpoint; published weights are called by name"),
        ("nothing.pth", "nothing.pth: no such checkpoint$"),
    ],
)
def test_other_names_are_no_published_weights(config: Config, given: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        find_weights(given, config)


@pytest.mark.parametrize("name", ["RawNet2_baseline", "RawGATST_baseline", "S2pecNet_paper"])
def test_systems_without_published_weights_say_so(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"nobody has published weights of .*; train it, python main.py --config"):
        find_weights(None, load_config(name))


def test_git_names_a_content_as_git_does(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"hello\n")
    assert git_digest_of(tmp_path / "a") == "ce013625030ba8dba906f756967f9e9ca394464a"


def test_the_command_lists_and_fetches(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    main([])
    before = capsys.readouterr().out
    assert "AASIST: not here; fetch it with `s2pecnet weights AASIST`" in before
    main(["AASIST", "S2pecNet"])
    fetched = capsys.readouterr().out
    assert "AASIST.pth" in fetched
    main([])
    assert f"AASIST: {published.kept_at('AASIST')}\n" in capsys.readouterr().out
    with pytest.raises(InputError, match="did you mean AASIST"):
        main(["AASIS"])


def test_a_file_without_an_address_says_where_a_person_gets_it(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    digest = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
    made = PublishedWeights("LA_model", "LA_model.pth", 300_000, digest, "MIT", "so", "https://page")
    monkeypatch.setitem(PUBLISHED, "LA_model", made)
    mirror = server.url.rpartition("/")[0]
    monkeypatch.delenv("S2PEC_WEIGHTS_MIRROR")
    message = r"LA_model.pth: not here, .* get LA_model.pth \(300,000 bytes\) by the links of https://page"
    with pytest.raises(InputError, match=message):
        find_weights(None, load_config("XLSR_AASIST"))
    assert main([]) == 0
    assert "LA_model: not here; get it by the links of the page, as " in capsys.readouterr().out
    # A mirror that has it, and the check of what it sends.
    monkeypatch.setenv("S2PEC_WEIGHTS_MIRROR", mirror)
    assert find_weights("LA_model", load_config("XLSR_AASIST")).read_bytes() == CONTENT
