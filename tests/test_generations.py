"""What a store may hold: which state came from which, and what is refused before anything of it is read."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any
from unittest import mock

import pytest

from tuner.errors import StateError
from tuner.generations import Head, Manifest, manifest_name, object_name
from tuner.mirror import Mirror
from tuner.snapshot import Content


@pytest.mark.parametrize(
    ("one", "other", "leads"),
    [
        ((), (("a", 1),), True),
        ((("a", 1),), (("a", 1),), True),
        ((("a", 1),), (("a", 3),), True),
        ((("a", 1),), (("a", 3), ("b", 4)), True),
        ((("a", 4),), (("a", 3), ("b", 4)), False),
        ((("c", 1),), (("a", 3), ("b", 4)), False),
        ((("a", 3), ("b", 4)), (("a", 3),), False),
    ],
)
def test_a_state_leads_to_those_that_were_made_from_it(one: Any, other: Any, leads: bool) -> None:
    assert Head(one).leads_to(Head(other)) is leads
    assert Head(one).leads_to(Head(one).next("z", 9))


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mirror:
    """The mirror of a store in this process's memory."""
    monkeypatch.setenv("TUNER_WORKING_COPIES", str(tmp_path / "cache"))
    return Mirror.named(f"memory://{tmp_path.name}", "run")


def planted(there: Mirror, files: Mapping[str, Any], links: Mapping[str, str] = MappingProxyType({})) -> None:
    """Write a manifest by hand; every file's bytes are `evil`."""
    sha256 = hashlib.sha256(b"evil").hexdigest()
    there._store.put({object_name(sha256): b"evil"})
    contents = {name: Content(**({"sha256": sha256, "size": 4} | said)) for name, said in files.items()}
    there._store.create(manifest_name(1), Manifest(Head((("x", 1),)), contents, links).to_bytes())


@pytest.mark.parametrize(
    "name",
    ["../x", "/etc/x", "a/../../x", "..", ".", "", "a//b", "a\0b", "a\nb", "a\\b", "x" * 300, "a/" * 600 + "a"],
)
def test_a_manifest_that_names_a_file_elsewhere_is_refused(name: str, hostile: Mirror, tmp_path: Path) -> None:
    planted(hostile, {"sweep.json": {}, name: {}})
    with pytest.raises(StateError, match="cannot be used"):
        hostile.pull()
    assert not hostile.run_dir.path.exists()
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} <= {".run.lock", ".run.mirror.json"}


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("trials/0000/checkpoint", "../../../../x"),
        ("trials/0000/checkpoint", "/etc"),
        ("trials/0000/checkpoint", "checkpoints/iter-1/../../../.."),
        ("trials", "checkpoints/iter-1"),
        ("../checkpoint", "checkpoints/iter-1"),
    ],
)
def test_a_link_other_than_to_a_checkpoint_is_refused(name: str, target: str, hostile: Mirror) -> None:
    planted(hostile, {"sweep.json": {}}, {name: target})
    with pytest.raises(StateError, match="cannot be used"):
        hostile.pull()


@pytest.mark.parametrize(
    "files",
    [
        {"a": {}, "a/b": {}},
        {"a": {"sha256": "../../x"}},
        {"a": {"sha256": "A" * 64}},
    ],
    ids=["file and folder", "object elsewhere", "no hash"],
)
def test_a_manifest_that_cannot_be_is_refused(files: Mapping[str, Any], hostile: Mirror) -> None:
    planted(hostile, files)
    with pytest.raises(StateError, match="cannot be used"):
        hostile.pull()


def test_an_object_that_is_not_what_its_manifest_says_is_refused_before_anything_is_read(hostile: Mirror) -> None:
    planted(hostile, {"sweep.json": {"sha256": "0" * 64}})
    hostile._store.put({object_name("0" * 64): b"evil"})
    with pytest.raises(StateError, match="is damaged"):
        hostile.pull()
    assert not hostile.run_dir.path.exists()


def test_a_torn_manifest_is_passed_over_and_its_number_not_used_again(
    hostile: Mirror, caplog: pytest.LogCaptureFixture
) -> None:
    planted(hostile, {"sweep.json": {}})
    hostile._store.create(manifest_name(2), Manifest(Head((("x", 2),))).to_bytes()[:-9])
    with hostile.kept(lambda: False):
        assert hostile.run_dir.sweep.read_text() == "evil"
        hostile.run_dir.sweep.write_text("3")
    assert "manifests/000000002 cannot be used" in caplog.text
    assert hostile._newest.head.generation == 3


def test_a_newer_versions_manifest_is_refused(hostile: Mirror) -> None:
    with mock.patch("tuner.generations.FORMAT", 99):
        planted(hostile, {"sweep.json": {}})
    with pytest.raises(StateError, match="has format 99"):
        hostile.pull()
