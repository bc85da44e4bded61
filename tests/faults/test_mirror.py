"""A remote `--out`, on a real S3 server: what a store holds after every fault, and what another machine makes of it."""

from __future__ import annotations

import errno
import http.client
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from itertools import count
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from tests.conftest import Command, tree
from tests.faults import IS_LONG, in_process
from tests.faults.in_process import SIGKILLED, SMALL, ToyEngine, answer_in, wait
from tests.faults.sound import Finished, assert_kept, assert_sound
from tuner import doctor, load, mirror, owner, report, train
from tuner.episodes import read_rows
from tuner.errors import AlreadyRunning, Interrupted, StateError, UsageError
from tuner.generations import manifest_name, object_name
from tuner.layout import RunDir
from tuner.mirror import Mirror, working_copy
from tuner.soundness import run_problems
from tuner.store import Store, check_url

KILL_SEEDS = 20 if IS_LONG else 1
PUTS = range(1, 61) if IS_LONG else (40,)
BUCKET = "runs"
TRIALS = 3  # of SMALL
# One parameter is searched: a driver that dies between two of them leaves the second to be drawn otherwise.
OPTIONS = (*SMALL, "--set", "gamma=0.99")
SHORT = ("--trials", "1", "--race-seeds", "0")
NEVER = lambda: False  # noqa: E731


class Server:
    """An S3 server in a process of its own, which outlives any driver."""

    def __init__(self, **environment: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.endpoint = f"http://127.0.0.1:{port}"
        words = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        self._process = subprocess.Popen(
            words, env={**os.environ, **environment}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for _ in range(300):
            with suppress(OSError):
                self.ask("GET", "moto-api/")
                return
            time.sleep(0.1)
        raise TimeoutError("the S3 server did not start")

    def ask(self, method: str, path: str) -> tuple[http.client.HTTPResponse, bytes]:
        """What it answers to somebody who is not asked for a key, and the answer's bytes."""
        with closing(http.client.HTTPConnection(self.endpoint.removeprefix("http://"), timeout=5)) as connection:
            connection.request(method, f"/{path}")
            answer = connection.getresponse()
            return answer, answer.read()

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    import s3fs  # noqa: F401 once here, and not in every child

    with closing(Server()) as server:
        server.ask("PUT", BUCKET)
        yield server


_numbers = count()


@pytest.fixture
def url(server: Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """An `--out` of this test's own on the server, whom the environment leads to."""
    lead_to(server.endpoint, monkeypatch)
    return f"s3://{BUCKET}/{next(_numbers)}"


def lead_to(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")  # s3fs tries several times as it is
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)


def in_hurry(cache: Path) -> None:
    """Have working copies in that folder, as another machine would, and do in tenths of a second what takes minutes."""
    os.environ["TUNER_WORKING_COPIES"] = str(cache)
    mirror.PUSH_EVERY_S = 0.2
    owner.RENEW_EVERY_S, owner.EXPIRES_S, owner.LOOK_EVERY_S = 0.2, 2.5, 0.1


def swept(out: str, cache: Path, *options: str, before: Callable[[], Any] = lambda: None) -> tuple[int, str]:
    """A small sweep on the machine with that cache: its exit code, and what it wrote to stderr."""

    def prepare() -> None:
        in_hurry(cache)
        before()

    return in_process.swept(out, *OPTIONS, *options, before=prepare)


def on(cache: Path, out: str, monkeypatch: pytest.MonkeyPatch) -> Mirror:
    """The mirror of a sweep as the machine with that cache has it."""
    monkeypatch.setenv("TUNER_WORKING_COPIES", str(cache))
    return Mirror.named(out, "run")


def pulled(out: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The store's state in a fresh folder."""
    found = on(cache, out, monkeypatch)
    found.pull()
    return found.run_dir.path


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of the same sweep without a store."""
    out = tmp_path_factory.mktemp("ended")
    assert wait(in_process.in_child(lambda: in_process.run(out, *OPTIONS))) == 0
    return out / "run"


@pytest.fixture(scope="module")
def undisturbed(ended: Path) -> dict[str, Any]:
    """Its answer."""
    return answer_in(ended / "summary.json")


def assert_done(out: str, cache: Path, expected: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """What the store holds is a whole sweep with that answer."""
    path = pulled(out, cache, monkeypatch)
    assert_sound(path, TRIALS)
    assert answer_in(path / "summary.json") == expected


def test_another_machine_goes_on_from_a_finished_sweep_and_starts_nothing(
    url: str, undisturbed: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert swept(url, tmp_path / "a") == (0, "")
    assert_done(url, tmp_path / "look", undisturbed, monkeypatch)
    store = Store(f"{url}/run")
    before = {name: store.names(name) for name in ("", "manifests", "objects", "best")}
    assert {"report.html", "report.md", "summary.json", "best"} <= {*before[""]} and "owner.json" not in before[""]
    assert "config.yaml" in before["best"] and len(before["manifests"]) <= 2
    assert swept(url, tmp_path / "b") == (0, "")
    assert {name: store.names(name) for name in before} == before
    there = pulled(url, tmp_path / "look", monkeypatch)
    assert store.read("report.html") == (there / "report.html").read_bytes()


@pytest.mark.parametrize("seed", range(KILL_SEEDS))
def test_after_kills_at_random_moments_the_store_is_sound_and_either_machine_ends_with_the_same_answer(
    seed: int, url: str, undisturbed: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(seed)  # noqa: S311 for tests
    before, machine, kills = Finished({}, {}), "a", 0
    for attempt in range(5):
        cache = tmp_path / machine
        pid = in_process.in_child(lambda cache=cache: (in_hurry(cache), in_process.run(url, *OPTIONS))[1])
        time.sleep(chance.uniform(0.3, 1.5))
        os.kill(pid, signal.SIGKILL)
        kills += wait(pid) == SIGKILLED
        path = pulled(url, tmp_path / f"look{attempt}", monkeypatch)
        if (path / "study.db").exists():
            assert list(run_problems(RunDir(path))) == []
        after = Finished.of(path)
        assert_kept(before, after)
        before = after
        machine = chance.choice("ab")
    assert kills
    assert swept(url, tmp_path / "c")[0] == 0
    assert_kept(before, Finished.of(pulled(url, tmp_path / "look", monkeypatch)))
    assert_done(url, tmp_path / "look", undisturbed, monkeypatch)


def dying_at(number: int) -> None:
    """Die when the store is written for that time; what is written at once is written one by one, in order."""
    from s3fs import S3FileSystem

    left = number
    written = S3FileSystem._pipe_file

    async def pipe_file(self: Any, path: str, data: bytes, **options: Any) -> Any:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return await written(self, path, data, **options)

    S3FileSystem._pipe_file = pipe_file


@pytest.mark.parametrize("number", PUTS)
def test_a_driver_that_dies_at_any_put_leaves_the_store_sound(
    number: int, url: str, undisturbed: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, _ = swept(url, tmp_path / "a", before=lambda: dying_at(number))
    assert code == SIGKILLED or (code == 0 and number > 40), "how often it is written depends on how long it takes"
    path = pulled(url, tmp_path / "look", monkeypatch)
    assert not path.exists() or list(run_problems(RunDir(path))) == []
    before = Finished.of(path)
    assert swept(url, tmp_path / "b")[0] == 0
    assert_kept(before, Finished.of(pulled(url, tmp_path / "look", monkeypatch)))
    assert_done(url, tmp_path / "look", undisturbed, monkeypatch)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_driver_that_dies_around_its_second_manifest_goes_on_from_its_working_copy(
    when: str, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(create: Any = Store.create) -> None:
        def at_the_second(self: Store, name: str, data: bytes) -> bool:
            if name == manifest_name(2) and when == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            done: bool = create(self, name, data)
            if name == manifest_name(2):
                os.kill(os.getpid(), signal.SIGKILL)
            return done

        Store.create = at_the_second  # type: ignore[method-assign]

    assert swept(url, tmp_path / "a", *SHORT, before=dies)[0] == SIGKILLED
    here = Finished.of(on(tmp_path / "a", url, monkeypatch).run_dir.path)
    code, said = swept(url, tmp_path / "a", *SHORT)
    assert code == 0 and "replaced" not in said
    path = pulled(url, tmp_path / "look", monkeypatch)
    assert_kept(here, Finished.of(path))
    assert_sound(path, 1)


@pytest.mark.ray
def test_a_real_sweep_on_a_real_ray_is_uploaded(
    server: Server, url: str, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("cartpole", "--name", "run", "--trials", "3", "--episodes", "60", "--race-seeds", "0", "--parallel", "1")
    words += ("--out", url)
    done = command("sweep", *words, env={"TUNER_WORKING_COPIES": str(tmp_path / "a")})
    assert done.returncode == 0, done.stderr
    assert f"store     {url}/run" in done.stdout
    assert_sound(pulled(url, tmp_path / "look", monkeypatch), 3)
    assert b"testing" not in b"".join(tree(tmp_path / "look").values()), "credentials are written nowhere"
    answer, _ = server.ask("GET", f"{url.removeprefix('s3://')}/run/report.html")
    assert str(answer.headers["Content-Type"]).startswith("text/html"), "a browser shows it"


def refused(out: str, cache: Path, before: Callable[[], Any] = lambda: None) -> str:
    """What a sweep says that is refused for its store; nothing was changed."""
    began = time.monotonic()
    code, said = swept(out, cache, before=before)
    assert code == 2, said
    assert time.monotonic() - began < 30
    assert said.splitlines()[-1].startswith("error: ") and "Traceback" not in said
    assert not list(cache.glob("*/run")), "no run folder was made"
    return said


def test_a_store_that_nobody_listens_at_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        lead_to(f"http://127.0.0.1:{free.getsockname()[1]}", monkeypatch)
    said = refused("s3://runs/x", tmp_path)
    assert "s3://runs/x/run: " in said and "check the address" in said


def test_a_store_that_does_not_answer_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        lead_to(f"http://127.0.0.1:{silent.getsockname()[1]}", monkeypatch)
        said = refused("s3://runs/x", tmp_path, before=lambda: setattr(mirror, "ANSWER_S", 1.0))
    assert "no answer within 1 s" in said


def test_a_bucket_that_is_not_there_is_refused_and_not_made(url: str, tmp_path: Path, server: Server) -> None:
    assert "s3://no-such-bucket/x/run: no such bucket" in refused("s3://no-such-bucket/x", tmp_path)
    assert b"no-such-bucket" not in server.ask("GET", "")[1]


def test_missing_credentials_are_refused(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    assert "give credentials" in refused(url, tmp_path)


def test_wrong_credentials_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(Server(INITIAL_NO_AUTH_ACTION_COUNT="0")) as strict:
        lead_to(strict.endpoint, monkeypatch)
        assert "refused (PermissionError" in refused("s3://runs/x", tmp_path)


def full_after(puts: float, until: float = float("inf")) -> None:
    """Have S3 refuse every object after so many, until the one of that number; training lasts until that is seen."""
    from s3fs import S3FileSystem

    numbers = count(1)
    written, iterate = S3FileSystem._pipe_file, ToyEngine.iterate
    is_seen = threading.Event()

    async def pipe_file(self: Any, path: str, data: bytes, **options: Any) -> Any:
        number = 0 if path.endswith(owner.OWNER) else next(numbers)
        if puts < number <= until:
            if until in (number, float("inf")):
                is_seen.set()
            raise OSError(errno.EDQUOT, "Disk quota exceeded")
        return await written(self, path, data, **options)

    def patient(self: ToyEngine) -> Any:
        if self.iteration == 1:
            assert is_seen.wait(60)
        return iterate(self)

    S3FileSystem._pipe_file = pipe_file
    ToyEngine.iterate = patient  # type: ignore[method-assign]


def test_a_full_store_is_refused_at_the_start(url: str, tmp_path: Path) -> None:
    assert f"{url}/run: is full" in refused(url, tmp_path, before=lambda: full_after(0))


def test_a_store_that_fills_up_ends_the_sweep_with_75_and_the_same_command_uploads_it(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, said = swept(url, tmp_path / "a", *SHORT, before=lambda: full_after(8))
    path = on(tmp_path / "a", url, monkeypatch).run_dir.path
    assert code == 75
    last = said.splitlines()[-1]
    assert "is full" in last and last.endswith(f"the working copy {path} has everything; the same command uploads it")
    assert said.count("training goes on") == 1, "it is told once"
    assert_sound(path, 1)
    before = tree(path / "trials")
    assert swept(url, tmp_path / "a", *SHORT)[0] == 0
    assert tree(path / "trials") == before, "nothing was run again"
    assert_sound(pulled(url, tmp_path / "look", monkeypatch), 1)


def test_a_store_that_comes_back_is_written_again(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, said = swept(url, tmp_path / "a", *SHORT, before=lambda: full_after(3, until=8))
    assert code == 0
    assert "training goes on" in said and "everything is uploaded again" in said
    assert_sound(pulled(url, tmp_path / "look", monkeypatch), 1)


def test_what_reads_a_store_says_how_it_is_installed(url: str, tmp_path: Path) -> None:
    def uninstall() -> None:
        sys.modules["fsspec.registry"]._registry.pop("s3", None)
        sys.modules["s3fs"] = None  # type: ignore[assignment]

    said = refused(url, tmp_path, before=uninstall)
    assert "pip install 'rllib-ppo-tuner[cluster]'" in said


@pytest.mark.parametrize(
    "bad",
    [
        "s3://key:word@bucket/runs",  # pragma: allowlist secret
        "s3://bucket/runs?token=word",
        "s3://bucket/runs#word",
        "s3://bucket/../word",
        "s3://",
        "simplecache::s3://word/x",
        "S3://word/x",
    ],
)
def test_a_url_with_more_than_names_in_it_is_refused_and_not_repeated(bad: str, tmp_path: Path) -> None:
    said = refused(bad, tmp_path)
    assert "not from the URL" in said
    assert "word" not in said


def test_a_scheme_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    assert "nobody://x/run" in refused("nobody://x", tmp_path)


def test_a_dry_run_and_a_bad_option_change_nothing_in_the_store(url: str, tmp_path: Path) -> None:
    assert swept(url, tmp_path / "a", "--dry-run")[0] == 0
    assert swept(url, tmp_path / "a", "--trials", "0")[0] == 2
    assert Store(f"{url}/run").names("") == []


def test_another_sweep_of_that_name_is_refused_and_the_store_left_as_it_is(url: str, tmp_path: Path) -> None:
    assert swept(url, tmp_path / "a", *SHORT)[0] == 0
    store = Store(f"{url}/run")
    before = {name: store.names(name) for name in ("", "manifests", "objects")}
    for more in (("--dry-run",), ()):
        code, said = swept(url, tmp_path / "b", "--seed", "77", *more)
        assert code == 3 and "--seed is 1 there, 77 here" in said
    assert {name: store.names(name) for name in before} == before


def holding(out: str, cache: Path, ready: Path) -> int:
    """Own a store until killed."""
    in_hurry(cache)
    with Mirror.named(out, "run").kept(NEVER):
        ready.touch()
        time.sleep(60)
    return 0


@pytest.fixture
def first(url: str, tmp_path: Path) -> Iterator[int]:
    """A driver that owns the store, its process id."""
    pid = in_process.in_child(lambda: holding(url, tmp_path / "a", tmp_path / "ready"))
    while not (tmp_path / "ready").exists():
        time.sleep(0.05)
    yield pid
    with suppress(ProcessLookupError, ChildProcessError):
        os.kill(pid, signal.SIGKILL)
        wait(pid)


def test_a_second_driver_on_another_machine_is_refused_with_the_name_of_the_first(
    first: int, url: str, tmp_path: Path
) -> None:
    code, said = swept(url, tmp_path / "b", before=lambda: setattr(owner, "EXPIRES_S", 60.0))
    assert code == 3
    assert f"in use by another driver, process {first} on {socket.gethostname()}" in said.splitlines()[-1]


def test_a_second_driver_on_the_same_working_copy_is_refused_at_once(first: int, url: str, tmp_path: Path) -> None:
    code, said = swept(url, tmp_path / "a")
    assert code == 3 and f"process {first}" in said.splitlines()[-1]
    assert swept(url, tmp_path / "a", "--dry-run")[0] == 0


def test_a_dead_drivers_claim_runs_out_for_another_machine_and_ends_at_once_on_its_own(
    first: int, url: str, tmp_path: Path
) -> None:
    os.kill(first, signal.SIGKILL)
    wait(first)
    assert "has not been heard of" in swept(url, tmp_path / "b", *SHORT)[1]
    pid = in_process.in_child(lambda: holding(url, tmp_path / "b", tmp_path / "again"))
    while not (tmp_path / "again").exists():
        time.sleep(0.05)
    os.kill(pid, signal.SIGKILL)
    wait(pid)
    code, said = swept(url, tmp_path / "b", *SHORT)
    assert code == 0 and "which has died" in said and "waiting" not in said


def test_a_stop_request_ends_the_wait_for_a_dead_drivers_claim(
    first: int, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        pytest.raises(Interrupted, match="nothing was started"),
        on(tmp_path / "b", url, monkeypatch).kept(lambda: True),
    ):
        pass


def test_a_driver_that_was_frozen_for_too_long_ends_with_3_and_writes_nothing_any_more(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = tmp_path / "said"

    def slow() -> int:
        in_hurry(tmp_path / "a")
        iterate = ToyEngine.iterate
        ToyEngine.iterate = lambda self: (time.sleep(1.0), iterate(self))[1]  # type: ignore[method-assign]
        with said.open("w") as file:
            os.dup2(file.fileno(), 2)
            return in_process.run(url, *OPTIONS, *SHORT)

    pid = in_process.in_child(slow)
    while not Store(f"{url}/run").names("manifests"):
        time.sleep(0.1)
    os.kill(pid, signal.SIGSTOP)
    code, other = swept(url, tmp_path / "b", *SHORT)
    assert code == 0, other
    os.kill(pid, signal.SIGCONT)
    assert wait(pid) == 3, said.read_text()
    rows = read_rows(on(tmp_path / "a", url, monkeypatch).run_dir.trial(0).episodes)
    assert len(rows) < 10, "it ends before its trial does"
    there = pulled(url, tmp_path / "look", monkeypatch)
    assert_sound(there, 1)
    assert Store(f"{url}/run").read("summary.json") == (there / "summary.json").read_bytes()
    code, again = swept(url, tmp_path / "a", *SHORT)
    assert code == 0 and ".run.replaced" in again, again


def write(copy: Mirror, text: str) -> None:
    copy.run_dir.make().sweep.write_text(text)


def read(copy: Mirror) -> str:
    return copy.run_dir.sweep.read_text()


def test_a_working_copy_that_is_ahead_of_the_store_is_kept(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = on(tmp_path / "a", url, monkeypatch)
    with a.kept(NEVER):
        write(a, "1")
    write(a, "2")  # and then the driver was killed
    again = on(tmp_path / "a", url, monkeypatch)
    again.pull()
    assert read(again) == "2"
    with again.kept(NEVER):
        pass
    assert (pulled(url, tmp_path / "b", monkeypatch) / "sweep.json").read_text() == "2"


def test_where_another_machine_went_on_its_state_counts_and_the_copy_of_before_is_kept_aside(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = on(tmp_path / "a", url, monkeypatch)
    with a.kept(NEVER):
        write(a, "1")
    write(a, "of an unfinished trial")
    b = on(tmp_path / "b", url, monkeypatch)
    with b.kept(NEVER):
        assert read(b) == "1"
        write(b, "2")
    a = on(tmp_path / "a", url, monkeypatch)
    a.pull()
    assert read(a) == "2"
    assert (a.run_dir.beside("replaced") / "sweep.json").read_text() == "of an unfinished trial"


def test_two_sweeps_that_have_nothing_in_common_are_refused(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = on(tmp_path / "a", url, monkeypatch)
    for text in "12":
        with on(tmp_path / "a", url, monkeypatch).kept(NEVER):
            write(a, text)
    store = Store(f"{url}/run")
    store.remove([manifest_name(1), manifest_name(2)])  # as somebody did who wanted to begin anew
    with pytest.raises(StateError, match=r"is empty, and .* had been uploaded there"):
        on(tmp_path / "a", url, monkeypatch).pull()
    b = on(tmp_path / "b", url, monkeypatch)
    with b.kept(NEVER):
        write(b, "other")
    with pytest.raises(StateError, match="gone on apart"):
        on(tmp_path / "a", url, monkeypatch).pull()
    assert read(a) == "2", "nothing was changed"


@pytest.mark.parametrize("pushes", [1, 3])
def test_of_two_drivers_that_push_at_the_same_time_the_slower_one_finds_out(
    pushes: int, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = on(tmp_path / "a", url, monkeypatch)

    def overtaken(found: object) -> None:  # with three pushes the number that is ours next is free again
        for text in map(str, range(pushes)):
            Store(f"{url}/run").remove([owner.OWNER])
            b = on(tmp_path / "b", url, monkeypatch)
            with b.kept(NEVER):
                write(b, text)

    monkeypatch.setattr(a, "_show", overtaken)
    with pytest.raises(AlreadyRunning, match="another driver has written to it"), a.kept(NEVER):
        write(a, "slower")
    assert (pulled(url, tmp_path / "c", monkeypatch) / "sweep.json").read_text() == str(pushes - 1)


def test_what_people_open_is_never_that_of_a_driver_that_was_overtaken(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(f"{url}/run")
    a, b = on(tmp_path / "a", url, monkeypatch), on(tmp_path / "b", url, monkeypatch)
    with pytest.raises(AlreadyRunning), a.kept(NEVER):
        store.remove([owner.OWNER])
        with b.kept(NEVER):
            b.run_dir.make().summary.write_text("quicker")
        a.run_dir.make().summary.write_text("slower")
    assert store.read("summary.json") == b"quicker"


def test_a_manifest_whose_answer_was_lost_is_ours(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create = Store.create

    def twice(self: Store, name: str, data: bytes) -> bool:
        return create(self, name, data) and (create(self, name, data) if name == manifest_name(1) else True)

    a = on(tmp_path / "a", url, monkeypatch)
    with mock.patch.object(Store, "create", twice), a.kept(NEVER):
        write(a, "1")
    assert (pulled(url, tmp_path / "b", monkeypatch) / "sweep.json").read_text() == "1"


def test_only_what_the_two_newest_manifests_need_is_kept(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(f"{url}/run")
    store.put({object_name("0" * 64): b"left behind by a driver that died"})
    for text in "1234":
        a = on(tmp_path / "a", url, monkeypatch)
        with a.kept(NEVER):
            write(a, text)
    assert sorted(store.names("manifests")) == ["000000003", "000000004"]
    assert len(store.names("objects")) == 2


def test_a_damaged_study_never_replaces_the_stores(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ended: Path
) -> None:
    a = on(tmp_path / "a", url, monkeypatch)
    with a.kept(NEVER):
        shutil.copytree(ended, a.run_dir.path, symlinks=True)
    again = on(tmp_path / "a", url, monkeypatch)
    with pytest.raises(StateError, match="is damaged"), again.kept(NEVER):
        data = bytearray(a.run_dir.study.read_bytes())
        data[8192:9000] = b"\xff" * 808
        a.run_dir.study.write_bytes(data)
    assert list(run_problems(RunDir(pulled(url, tmp_path / "b", monkeypatch)))) == []


def test_commands_that_read_a_run_folder_take_its_url(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    assert swept(url, tmp_path / "a", *SHORT)[0] == 0
    monkeypatch.setenv("TUNER_WORKING_COPIES", str(tmp_path / "b"))
    assert load(f"{url}/run").best is not None
    assert doctor.main([f"{url}/run"]) == 0
    (working_copy(f"{url}/run") / "report.md").unlink()
    assert doctor.main([f"{url}/run"]) == 0
    with in_process.replaced():
        assert report.main([f"{url}/run"]) == 0
    there = pulled(url, tmp_path / "look", monkeypatch)
    assert Store(f"{url}/run").read("report.html") == (there / "report.html").read_bytes()
    with pytest.raises(UsageError, match="no run folder there"):
        working_copy(f"{url}/other")


def test_what_writes_to_folders_alone_refuses_a_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert train.main(["cartpole", "--episodes", "1", "--out", "s3://bucket/runs"]) == 2
    assert not list(tmp_path.iterdir())


def test_slashes_at_its_end_do_not_make_another_url() -> None:
    assert check_url("s3://bucket/runs//") == "s3://bucket/runs"
