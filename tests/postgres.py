"""A real PostgreSQL of the tests' own: a data folder, a loopback port, passwords asked for; gone in the end."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

USER = "tuner"


@dataclass(frozen=True)
class Server:
    """A server that runs, and the password of its one user."""

    port: int
    password: str

    def url(self, database: str, *, has_password: bool = True) -> str:
        """A database's URL."""
        user = f"{USER}:{self.password}" if has_password else USER
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def create(self, database: str) -> str:
        """A new database, its URL."""
        import psycopg

        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"create database {database}")
        return self.url(database)


def programs() -> Path | None:
    """Where `initdb` and `postgres` are; Debian keeps them off the path."""
    found = shutil.which("initdb")
    folders = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return next((folder for folder in reversed(folders) if (folder / "initdb").is_file()), None)


@contextmanager
def temporary() -> Iterator[Server]:
    """A server in a folder of its own."""
    with temporary_folder() as folder:
        server = made(folder)
        with started(folder, server):
            yield server


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder that a server's user can reach, as it cannot those of pytest."""
    with tempfile.TemporaryDirectory(prefix="pg-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def made(folder: Path) -> Server:
    """The data of a new server."""
    server = Server(_free_port(), secrets.token_hex(12))
    word = folder / "password"
    word.write_text(server.password)
    for path in (folder, word) if _owner() else ():
        shutil.chown(path, *_owner().values())
    words = ["initdb", "-D", "data", "-U", USER, "--auth=scram-sha-256", "--pwfile=password", "--no-sync"]
    subprocess.run([_bin() / words[0], *words[1:]], check=True, capture_output=True, cwd=folder, **_owner())
    return server


@contextmanager
def started(folder: Path, server: Server) -> Iterator[None]:
    """The server of these data, while the context lasts; its end disconnects whoever is connected."""
    settings = (f"port={server.port}", "listen_addresses=127.0.0.1", f"unix_socket_directories={folder}", "fsync=off")
    words = [_bin() / "postgres", "-D", "data", *(word for setting in settings for word in ("-c", setting))]
    with (folder / "log").open("a") as log, subprocess.Popen(
        words, stdout=log, stderr=log, cwd=folder, **_owner()
    ) as process:  # fmt: skip
        try:
            _wait_for(server, process)
            yield
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(30)


def _bin() -> Path:
    folder = programs()
    assert folder is not None
    return folder


def _owner() -> dict[str, Any]:
    """Whose a server of root's is: PostgreSQL refuses to be root's."""
    if os.geteuid():
        return {}
    user = pwd.getpwnam("nobody")
    return {"user": user.pw_uid, "group": user.pw_gid}


def _wait_for(server: Server, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        import psycopg

        try:
            psycopg.connect(server.url("postgres"), connect_timeout=5).close()
            return
        except psycopg.OperationalError:
            time.sleep(0.1)
    raise RuntimeError("PostgreSQL did not start")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    sys.exit(None if programs() else "error: no PostgreSQL here")
