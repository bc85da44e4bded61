"""Durable files: whole or not at all, verified by a manifest, owned by one living process."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import tree
from tuner.disk import is_full
from tuner.errors import AlreadyRunning
from tuner.files import (
    MANIFEST,
    copy_folder,
    lock,
    manifest_problem,
    replace_folder,
    replace_link,
    write_atomic,
    write_json,
    write_manifest,
)

HOLDER = """
import sys
from pathlib import Path
from tuner.files import lock

with lock(Path(sys.argv[1]), "busy", "wait"):
    print("held", flush=True)
    sys.stdin.read()
"""

FAULTS = [(os, "fsync"), (os, "replace"), (os, "rename"), (Path, "replace"), (Path, "rename")]


def fail(*args: object, **options: object) -> None:
    """What a full or broken disk does."""
    raise OSError(28, "No space left on device")


def sealed(folder: Path) -> Path:
    """A folder of files under a manifest."""
    (folder / "learner" / "module").mkdir(parents=True)
    (folder / "state.pkl").write_bytes(b"state")
    (folder / "empty").write_bytes(b"")
    (folder / "learner" / "module" / "weights").write_bytes(bytes(range(256)))
    write_manifest(folder, {"format": 1})
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return sealed(tmp_path / "iter-1")


@pytest.fixture
def hold() -> Iterator[Callable[[Path], subprocess.Popen[str]]]:
    """Starts processes that hold a lock until their stdin ends."""
    started = []

    def start(path: Path) -> subprocess.Popen[str]:
        holder = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        started.append(holder)
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        return holder

    yield start
    for holder in started:
        holder.kill()
        holder.communicate()


@pytest.mark.parametrize("data", [b"\x00bytes\xff", "text: ñ"])
def test_what_is_written_is_what_is_read(data: bytes | str, tmp_path: Path) -> None:
    write_atomic(tmp_path / "file", data)
    assert (tmp_path / "file").read_bytes() == (data if isinstance(data, bytes) else data.encode())


def test_a_write_leaves_nothing_but_its_file(tmp_path: Path) -> None:
    write_atomic(tmp_path / "file", b"old")
    write_atomic(tmp_path / "file", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(("owner", "name"), FAULTS, ids=[f"{owner.__name__}.{name}" for owner, name in FAULTS])
def test_a_write_that_fails_leaves_the_old_bytes_or_the_new_ones(
    owner: Any, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_atomic(tmp_path / "file", b"old")
    monkeypatch.setattr(owner, name, fail)
    try:
        write_atomic(tmp_path / "file", b"new")
    except OSError:
        assert (tmp_path / "file").read_bytes() == b"old"
    else:
        assert (tmp_path / "file").read_bytes() == b"new"


@pytest.mark.parametrize(("owner", "name"), [(os, "fsync"), (Path, "replace")], ids=["fsync", "replace"])
def test_a_write_that_fails_says_so(owner: Any, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owner, name, fail)
    with pytest.raises(OSError, match="No space left"):
        write_atomic(tmp_path / "file", b"new")


def test_a_write_succeeds_where_an_earlier_one_was_cut_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", fail)
        with pytest.raises(OSError, match="No space left"):
            write_atomic(tmp_path / "file", b"cut short")
    write_atomic(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"


def test_a_reader_beside_a_writer_sees_the_old_bytes_or_the_new_ones(tmp_path: Path) -> None:
    path, versions = tmp_path / "file", (b"a" * 100_000, b"b" * 70_000)
    write_atomic(path, versions[0])
    writer = threading.Thread(target=lambda: [write_atomic(path, versions[n % 2]) for n in range(60)])
    writer.start()
    seen = {path.read_bytes()}
    while writer.is_alive():
        seen.add(path.read_bytes())
    writer.join()
    assert seen <= set(versions)


def test_json_is_written_for_a_person_to_read(tmp_path: Path) -> None:
    write_json(tmp_path / "file.json", {"trials": 3})
    assert (tmp_path / "file.json").read_text() == '{\n  "trials": 3\n}\n'


def test_json_that_other_programs_cannot_read_is_never_written(tmp_path: Path) -> None:
    write_json(tmp_path / "file.json", {"score": 1.0})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "file.json", {"score": float("nan")})
    assert json.loads((tmp_path / "file.json").read_text()) == {"score": 1.0}


def test_a_folder_that_nobody_touched_verifies(folder: Path) -> None:
    assert manifest_problem(folder) is None


def test_a_folder_verifies_wherever_it_is_moved(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    assert manifest_problem(tmp_path / "copy") is None


def test_a_manifest_holds_the_facts_beside_the_files(folder: Path) -> None:
    manifest = json.loads((folder / MANIFEST).read_bytes())
    assert (manifest["format"], sorted(manifest["files"])) == (1, ["empty", "learner/module/weights", "state.pkl"])


def test_a_file_that_is_itself_called_a_manifest_is_listed_like_any_other(tmp_path: Path) -> None:
    (tmp_path / "learner").mkdir()
    (tmp_path / "learner" / MANIFEST).write_text("{}")
    write_manifest(tmp_path, {})
    assert manifest_problem(tmp_path) is None


@settings(deadline=None, max_examples=50)
@given(position=st.integers(0, 255), flip=st.integers(1, 255))
def test_any_changed_byte_is_noticed(position: int, flip: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = sealed(tmp_path_factory.mktemp("flipped") / "iter-1")
    weights = folder / "learner" / "module" / "weights"
    data = bytearray(weights.read_bytes())
    data[position] ^= flip
    weights.write_bytes(data)
    assert manifest_problem(folder) == "learner/module/weights: changed"


@pytest.mark.parametrize("size", [0, 1, 255, 257])
def test_a_file_of_another_size_is_noticed(size: int, folder: Path) -> None:
    (folder / "learner" / "module" / "weights").write_bytes((bytes(range(256)) + b"\0")[:size])
    assert manifest_problem(folder) == "learner/module/weights: changed"


@pytest.mark.parametrize("name", ["state.pkl", "empty", "learner/module/weights"])
def test_a_missing_file_is_noticed(name: str, folder: Path) -> None:
    (folder / name).unlink()
    assert manifest_problem(folder) == f"{name}: missing"


def test_a_missing_folder_is_noticed(folder: Path) -> None:
    shutil.rmtree(folder / "learner")
    assert manifest_problem(folder) == "learner/module/weights: missing"


@pytest.mark.parametrize("name", ["planted.pkl", "learner/planted.pkl", ".hidden"])
def test_an_extra_file_is_noticed(name: str, folder: Path) -> None:
    (folder / name).write_bytes(b"")
    assert manifest_problem(folder) == f"{name}: not in the manifest"


def test_a_link_in_the_place_of_a_file_is_noticed_even_where_the_bytes_are_the_same(
    folder: Path, tmp_path: Path
) -> None:
    (folder / "state.pkl").rename(tmp_path / "elsewhere")
    (folder / "state.pkl").symlink_to(tmp_path / "elsewhere")
    assert manifest_problem(folder) == "state.pkl: missing"


@pytest.mark.parametrize("target", ["state.pkl", "learner", "nowhere"])
def test_an_extra_link_is_noticed(target: str, folder: Path) -> None:
    (folder / "link").symlink_to(target)
    assert manifest_problem(folder) == "link: not in the manifest"


def test_a_link_in_the_place_of_a_folder_is_noticed(folder: Path, tmp_path: Path) -> None:
    (folder / "learner").rename(tmp_path / "elsewhere")
    (folder / "learner").symlink_to(tmp_path / "elsewhere")
    assert manifest_problem(folder) is not None


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"[]", b'"files"', b"{}", b'{"files": {"state.pkl": {}}}',
                                  b'{"files": {"empty": {}, "learner/module/weights": {}, "state.pkl": {}}}',
                                  b'{"files": ["empty", "learner/module/weights", "state.pkl"]}'])  # fmt: skip
def test_a_manifest_that_is_none_is_a_problem_and_no_error(data: bytes, folder: Path) -> None:
    (folder / MANIFEST).write_bytes(data)
    assert manifest_problem(folder) is not None


def test_a_folder_without_a_manifest_does_not_verify(folder: Path) -> None:
    (folder / MANIFEST).unlink()
    assert manifest_problem(folder) == f"{MANIFEST}: FileNotFoundError"


def test_a_folder_that_is_not_there_does_not_verify(tmp_path: Path) -> None:
    assert manifest_problem(tmp_path / "none") == f"{MANIFEST}: FileNotFoundError"


@pytest.mark.parametrize("has_old", [True, False])
def test_a_finished_folder_takes_the_place_of_another(has_old: bool, tmp_path: Path) -> None:
    source, target = tmp_path / ".tmp", tmp_path / "best"
    source.mkdir()
    (source / "new").write_bytes(b"")
    if has_old:
        target.mkdir()
        (target / "old").write_bytes(b"")
    replace_folder(source, target)
    assert [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*"))] == ["best", "best/new"]


def test_a_folder_is_replaced_where_an_earlier_exchange_was_cut_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("first", "second", "best"):
        (tmp_path / name).mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda *args, **options: None)
        replace_folder(tmp_path / "first", tmp_path / "best")
    replace_folder(tmp_path / "second", tmp_path / "best")
    assert [path.name for path in tmp_path.iterdir()] == ["best"]


def test_a_link_points_at_its_target_relatively(folder: Path, tmp_path: Path) -> None:
    replace_link(tmp_path / "checkpoint", folder)
    assert (tmp_path / "checkpoint").readlink() == Path("iter-1")


def test_a_link_still_leads_to_its_target_where_both_were_moved(tmp_path: Path) -> None:
    trial = tmp_path / "trial"
    sealed(trial / "checkpoints" / "iter-1")
    replace_link(trial / "checkpoint", trial / "checkpoints" / "iter-1")
    trial.rename(tmp_path / "moved")
    assert manifest_problem(tmp_path / "moved" / "checkpoint") is None


def test_a_link_is_pointed_at_a_newer_target(folder: Path, tmp_path: Path) -> None:
    replace_link(tmp_path / "checkpoint", folder)
    replace_link(tmp_path / "checkpoint", sealed(tmp_path / "iter-2"))
    assert (tmp_path / "checkpoint").resolve().name == "iter-2"


def test_a_link_that_cannot_be_replaced_stays_as_it_was(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_link(tmp_path / "checkpoint", folder)
    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="No space left"):
        replace_link(tmp_path / "checkpoint", tmp_path / "iter-2")
    assert (tmp_path / "checkpoint").resolve() == folder.resolve()


def test_a_link_is_replaced_where_an_earlier_exchange_was_cut_short(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", fail)
        with pytest.raises(OSError, match="No space left"):
            replace_link(tmp_path / "checkpoint", tmp_path / "iter-0")
    replace_link(tmp_path / "checkpoint", folder)
    assert (tmp_path / "checkpoint").resolve() == folder.resolve()


def test_a_second_process_is_refused_with_the_owners_id_and_a_remedy(
    tmp_path: Path, hold: Callable[[Path], subprocess.Popen[str]]
) -> None:
    owner = hold(tmp_path / ".lock")
    with (
        pytest.raises(AlreadyRunning, match=rf"^runs/a is busy: process {owner.pid} on .+; wait for it$"),
        lock(tmp_path / ".lock", "runs/a is busy", "wait for it"),
    ):
        pass


def test_a_refused_process_leaves_the_owners_name_in_the_lock(
    tmp_path: Path, hold: Callable[[Path], subprocess.Popen[str]]
) -> None:
    hold(tmp_path / ".lock")
    before = (tmp_path / ".lock").read_text()
    with pytest.raises(AlreadyRunning), lock(tmp_path / ".lock", "busy", "wait"):
        pass
    assert (tmp_path / ".lock").read_text() == before


def test_the_lock_of_a_killed_owner_is_free(tmp_path: Path, hold: Callable[[Path], subprocess.Popen[str]]) -> None:
    owner = hold(tmp_path / ".lock")
    owner.kill()
    owner.wait()
    with lock(tmp_path / ".lock", "busy", "wait"):
        assert (tmp_path / ".lock").read_text().startswith(f"process {os.getpid()} on ")


def test_a_lock_keeps_other_owners_of_the_same_process_out_too(tmp_path: Path) -> None:
    with lock(tmp_path / ".lock", "busy", "wait"), pytest.raises(AlreadyRunning), lock(tmp_path / ".lock", "b", "w"):
        pass


def test_a_lock_is_free_again_after_an_error_of_its_owner(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), lock(tmp_path / ".lock", "busy", "wait"):
        raise ZeroDivisionError
    with lock(tmp_path / ".lock", "busy", "wait"):
        assert (tmp_path / ".lock").is_file()


def test_a_copied_folder_holds_the_same(folder: Path, tmp_path: Path) -> None:
    copy_folder(folder, tmp_path / "new" / "copy")
    assert tree(tmp_path / "new" / "copy") == tree(folder)
    assert manifest_problem(tmp_path / "new" / "copy") is None


def test_a_disk_that_is_full_is_told_as_one_by_who_copies_a_folder(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "copyfile", fail)
    with pytest.raises(OSError, match="No space left") as raised:
        copy_folder(folder, tmp_path / "copy")
    assert is_full(raised.value)
