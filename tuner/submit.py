"""`tuner submit SPACE`: run one sweep as a job of a Ray cluster, from any machine that reaches its Jobs API."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import logging
import os
import re
import secrets
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tuner import catalog, command, envs, storage, sweep
from tuner.catalog import GYM_PREFIX, Source
from tuner.cluster import CONNECT_S, connection_problem
from tuner.deaths import TIMEOUT
from tuner.errors import (
    EXIT_DONE,
    EXIT_INTERRUPTED,
    EXIT_STATE,
    EXIT_TRIALS_FAILED,
    EXIT_USAGE,
    Interrupted,
    UsageError,
)
from tuner.layout import safe_name
from tuner.live import LOG
from tuner.plan import SweepOptions, check_options, effective_space

if TYPE_CHECKING:
    from ray.job_submission import JobDetails, JobSubmissionClient

OLDEST_RAY = (2, 60)
STOP_WAIT_S = 60  # Ray would kill the driver after three seconds, before trials have saved
SILENCE_S = 60.0
_RUN = "tuner_run"  # in a job's metadata: the run folder that it works on
_FORWARDED = (TIMEOUT, LOG)  # of this environment: what is no secret and means the same there
_NOT_SHIPPED = {"__pycache__", "node_modules", "runs", "site-packages", "venv"}
_MOST_FILES = 2000
_LACKING = re.compile(r"ModuleNotFoundError: No module named '([\w.]+)'|python: (?:command )?not found")
_TALKATIVE = ("ray._private.runtime_env.packaging", "ray.dashboard.modules.dashboard_sdk",
              "ray.dashboard.modules.job.sdk")  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Submit, follow, show or stop a job, and return its exit code where it was waited for."""
    return command.run(_main, parser(), argv)


def parser() -> argparse.ArgumentParser:
    """The command's options: the sweep's, and where it runs."""
    parser = command.parser("submit", __doc__)
    add = parser.add_argument
    sweep.add_options(parser)
    add("--address", required=True, metavar="URL", help="the cluster's Jobs API, http://HOST:8265")
    add("--wait", action="store_true", help="follow the job's output; its exit code is this command's")
    add("--pip", metavar="FILE", help="requirements to install there first; the images of docker/ have this project's")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--status", metavar="ID", help="print where a job stands")
    what.add_argument("--logs", metavar="ID", help="print what a job has printed")
    what.add_argument("--stop", metavar="ID", help="have a job save and stop; submitting it again goes on")
    return parser


def _main(args: argparse.Namespace) -> int:
    job = args.status or args.logs or args.stop
    if job and args.space:
        raise UsageError(f"submit {args.space}: either a SPACE or --status, --logs, --stop ID")
    if not job and not args.space:
        raise UsageError(
            "submit: which SPACE? `python -m tuner.sweep --list` shows them; for example `submit cartpole`"
        )
    if job:
        with _talking_to(args.address) as client:
            return _show(client, args)
    source, options = _checked(args.space, sweep.options_of(args))
    requirements = _requirements(args.pip)
    with _talking_to(args.address) as client:
        job = _running(client, _run_of(options)) or _submit(client, source, options, requirements)
        print(job, flush=True)
        return _exit_code(client, job, args.address) if args.wait else EXIT_DONE


def _checked(space: str, options: SweepOptions) -> tuple[Source, SweepOptions]:
    """The space and the options, once all that can be refused here is; the run folder is the cluster's to check.

    Raises:
        UsageError: one of them cannot be used.
    """
    check_options(options)
    source = catalog.load(space)
    effective = effective_space(source, options)
    envs.explicit(effective.env, effective.env_config)
    # The job has no folder of its own that lasts: a relative one is meant from here, on a disk that both see.
    out = options.out if "://" in options.out else str(Path(options.out).absolute())
    database = storage.asked_for(options.storage) if options.storage else None
    return source, dataclasses.replace(options, out=out, storage=database, name=options.name or safe_name(source.name))


def _run_of(options: SweepOptions) -> str:
    return f"{options.out}/{options.name}"


def _requirements(file: str | None) -> list[str]:
    """The lines of a requirements file, for Ray to install.

    Raises:
        UsageError: it cannot be read.
    """
    if file is None:
        return []
    try:
        lines = [line.partition("#")[0].strip() for line in Path(file).read_text().splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--pip {file}: cannot be read ({error}); name a requirements file") from error
    return [line for line in lines if line]


@contextmanager
def _talking_to(address: str) -> Iterator[JobSubmissionClient]:
    """A client of the Jobs API at `address`; what goes wrong on the way is an error of ours.

    Raises:
        UsageError: nothing answers there, it wants another token, or its Ray is too old.
        Interrupted: it stopped answering.
    """
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"--address {address}: must be http://HOST:8265, the cluster's dashboard; for HOST:PORT of a "
                         "head, on a machine of its own cluster, use tuner.sweep")  # fmt: skip
    if parts.username or parts.password:
        raise UsageError("--address: holds a password; the token comes from RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    if problem := connection_problem(f"{parts.hostname}:{port}", CONNECT_S):
        raise UsageError(f"--address {address}: nothing answers there ({problem}); start the head with "
                         "`ray start --head`, with ray[default] installed, or forward its port 8265")  # fmt: skip
    if find_spec("aiohttp") is None:
        raise UsageError("submit: needs ray[default], which is not installed; pip install 'rllib-ppo-tuner[cluster]'")
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        client = JobSubmissionClient(address)
        version = str(client._server_ray_version)
    except AuthenticationError as error:
        raise UsageError(f"--address {address}: {_about_token(error)}") from error
    except (ConnectionError, RuntimeError, OSError, ValueError) as error:
        why = catalog.first_line(error)
        raise UsageError(f"--address {address}: is no Jobs API ({why}); name the dashboard of a cluster") from error
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST_RAY:
        oldest = ".".join(map(str, OLDEST_RAY))
        raise UsageError(f"--address {address}: runs Ray {version}; start it with {oldest} or newer")
    try:
        yield client
    except AuthenticationError as error:
        raise UsageError(f"--address {address}: {_about_token(error)}") from error
    except (ConnectionError, OSError) as error:
        why = catalog.first_line(error)
        raise Interrupted(
            f"--address {address}: stopped answering ({why}); a job there goes on, and the same command follows it"
        ) from error


def _about_token(error: Exception) -> str:
    return (
        f"refuses the token of this machine, or its lack ({catalog.first_line(error)}); copy ~/.ray/auth_token from "
        "the head, or name a copy with RAY_AUTH_TOKEN_PATH, and set RAY_AUTH_MODE=token"
    )


def _show(client: JobSubmissionClient, args: argparse.Namespace) -> int:
    job = args.status or args.logs or args.stop
    try:
        if args.status:
            info = client.get_job_info(job)
            code = "" if info.driver_exit_code is None else f", exit code {info.driver_exit_code}"
            command.say(f"{info.status}{code}")
        elif args.logs:
            command.say(client.get_job_logs(job))
        elif not client.stop_job(job):
            command.say(f"{job} had ended")
    except RuntimeError as error:
        if not _is_of_no_job(error):
            raise
        raise UsageError(
            f"{job}: the cluster at {args.address} knows no such job; its ids are printed by submit"
        ) from error
    return EXIT_DONE


def _running(client: JobSubmissionClient, run: str) -> str | None:
    """The job that works on a run folder already."""
    for info in client.list_jobs():
        if not info.status.is_terminal() and (info.metadata or {}).get(_RUN) == run:
            command.say(f"a job works on {run} already", sys.stderr)
            return str(info.submission_id)
    return None


def _submit(client: JobSubmissionClient, source: Source, options: SweepOptions, requirements: list[str]) -> str:
    """Ship the code and start the job; its id."""
    with tempfile.TemporaryDirectory(prefix="tuner-submit-") as name:
        folder = Path(name)
        space = _stage(source, folder)
        words = ["python", "-m", "tuner.sweep", *_words(options), "--address", "auto"]
        variables = {name: os.environ[name] for name in _FORWARDED if name in os.environ}
        job = {
            # Ray may replace the folder that it unpacked the code into, in which a process could not go on.
            "entrypoint": f'space={space}; cd /tmp && exec {shlex.join(words)} -- "$space"',
            "submission_id": f"{options.name}-{secrets.token_hex(4)}",
            "metadata": {_RUN: _run_of(options)},
            "runtime_env": {
                "working_dir": str(folder),
                "env_vars": {**variables, "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WAIT_S)},
                **({"pip": requirements} if requirements else {}),
            },
        }
        return _started(client, job)


def _started(client: JobSubmissionClient, job: dict[str, Any]) -> str:
    """Start a job, once its cluster can: the Jobs API answers some seconds before what starts jobs is there.

    Raises:
        ConnectionError: it cannot after a minute.
    """
    waiting_since = time.monotonic()
    while True:
        try:
            return str(client.submit_job(**job))
        except RuntimeError as error:
            if "No available agent" not in str(error):
                raise
            if time.monotonic() - waiting_since > SILENCE_S:
                raise ConnectionError(catalog.first_line(error)) from error
        time.sleep(1.0)


def _stage(source: Source, folder: Path) -> str:
    """Fill a folder with this project and the Python files around the space; the space as a shell finds it there."""
    package = Path(__file__).parent
    shutil.copytree(package, folder / package.name, ignore=shutil.ignore_patterns("__pycache__", "*.nbi", "*.nbc"))
    if source.file.startswith(GYM_PREFIX):
        _stage_python(Path.cwd(), folder)
        return shlex.quote(source.file)
    file = Path(source.file).resolve()
    base = file.parent.parent if file.parent.name == "search_spaces" else file.parent
    if base != package.parent:  # else the space is one of this project's
        _stage_python(base, folder)
    (folder / "search_spaces").mkdir(exist_ok=True)
    shutil.copy(file, folder / "search_spaces" / file.name)
    return '"$PWD"/' + shlex.quote(f"search_spaces/{file.name}")


def _stage_python(base: Path, folder: Path) -> None:
    """Copy the Python files under `base`, in which an environment may be; no other file, which might be a secret."""
    copied = 0
    for path, folders, files in os.walk(base):
        folders[:] = [name for name in folders if name not in _NOT_SHIPPED and not name.startswith(".")
                      and not (Path(path) / name / "pyvenv.cfg").exists()]  # fmt: skip
        for name in files:
            target = folder / Path(path).relative_to(base) / name
            if not name.endswith(".py") or target.exists():
                continue
            copied += 1
            if copied > _MOST_FILES:
                raise UsageError(
                    f"{base}: holds more than {_MOST_FILES:,} Python files, which would all be shipped; put the space "
                    "and its environment into a folder of their own"
                )
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(Path(path) / name, target)


def _words(options: SweepOptions) -> Iterator[str]:
    """The options that differ from their defaults, as the command's words."""
    for field in dataclasses.fields(SweepOptions):
        value: Any = getattr(options, field.name)
        name = "--" + {"time_s": "time"}.get(field.name, field.name).replace("_", "-")
        if field.name == "set":
            for key, text in value.items():
                yield from (name, f"{key}={text}")
        elif field.name != "address" and value != field.default:
            yield from (name,) if value is True else (name, str(value))


def _exit_code(client: JobSubmissionClient, job: str, address: str) -> int:
    """Print what the job prints until it ends; the exit code that it ended with.

    Raises:
        Interrupted: it was stopped, or its cluster is gone.
        UsageError: what it needs could not be installed there.
    """
    with suppress(KeyboardInterrupt):
        asyncio.run(_follow(client, job))
        return _code_of(client.get_job_info(job), address)
    command.say(f"{job} goes on; the same command follows it, --stop {job} ends it", sys.stderr)
    return EXIT_INTERRUPTED


async def _follow(client: JobSubmissionClient, job: str) -> None:
    """Print the job's output as it comes, until the job has ended.

    Raises:
        ConnectionError: its cluster did not answer for a minute.
        Interrupted: its cluster knows it no more.
    """
    printed, failing_since = 0, None
    while True:
        try:
            has_ended = client.get_job_status(job).is_terminal()  # asked first: what it printed last is still to come
            position = 0
            async for text in _output_of(client, job):  # from its beginning each time
                failing_since = None
                new = text[max(0, printed - position) :]
                position += len(text)
                printed = max(printed, position)
                sys.stdout.write(command.printable(new))
                sys.stdout.flush()
            if has_ended:
                return
            failing_since = None
        except (OSError, RuntimeError) as error:
            if _is_of_no_job(error):
                raise Interrupted(
                    f"{job}: its cluster was started again and knows it no more; the same command goes on"
                ) from error
            failing_since = failing_since or time.monotonic()
            if time.monotonic() - failing_since > SILENCE_S:
                raise ConnectionError(catalog.first_line(error)) from error
        await asyncio.sleep(1.0)


def _is_of_no_job(error: Exception) -> bool:
    """Whether that is how the Jobs API says that it has no such job."""
    return isinstance(error, RuntimeError) and "status code 404" in str(error)


async def _output_of(client: JobSubmissionClient, job: str) -> AsyncIterator[str]:
    import aiohttp

    try:
        async for text in client.tail_job_logs(job):
            yield text
    except aiohttp.ClientError as error:
        raise ConnectionError(str(error)) from error


def _code_of(info: JobDetails, address: str) -> int:
    from ray.job_submission import JobStatus

    if info.status == JobStatus.SUCCEEDED:
        return EXIT_DONE
    if info.status == JobStatus.STOPPED:
        raise Interrupted(f"{info.submission_id}: was stopped, everything is saved; the same command goes on")
    lacking = _LACKING.search(info.message or "")
    if lacking:
        raise UsageError(
            f"{info.submission_id}: the `python` of the cluster's head lacks {lacking[1] or 'itself'}; start Ray there "
            "with this project's environment first in PATH, use an image of docker/, or name requirements with --pip"
        )
    if info.driver_exit_code in (EXIT_TRIALS_FAILED, EXIT_USAGE, EXIT_STATE, EXIT_INTERRUPTED):
        return int(info.driver_exit_code)
    if info.driver_exit_code is None and "runtime_env" in (info.message or "").lower():
        raise UsageError(f"{info.submission_id}: what it needs could not be set up on {address}: {info.message}")
    why = f"exit code {info.driver_exit_code}" if info.driver_exit_code is not None else (info.message or "unknown")
    raise Interrupted(f"{info.submission_id}: its driver was lost ({why}); the same command goes on")


if __name__ == "__main__":
    sys.exit(main())
