"""The database that a study is in, where that is not the run folder: its URL, its password, and a first look at it.

Everywhere but in the call that connects, a URL is without its password: that stays in TUNER_STORAGE alone.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuner.errors import StorageLost, UsageError

if TYPE_CHECKING:
    from sqlalchemy import URL

VARIABLE = "TUNER_STORAGE"
OPTION = "--storage"
STUDY = "sweep"  # what a study is called in a run folder's own database
IDENTITY = "sweep"  # the attribute with which a study says which sweep it is of

_DRIVERS = {"postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql"}  # those that the extra `cluster` brings
_PORTS = {"postgresql": 5432, "mysql": 3306}
_CONNECT_S = 10
_HALTED_MS = 20_000
_EXAMPLE = "postgresql://USER@HOST/DATABASE, mysql://USER@HOST/DATABASE or sqlite:////FOLDER/FILE.db"


def asked_for(option: str | None) -> str | None:
    """The database that `--storage` names, else TUNER_STORAGE, without its password; None where neither does.

    Raises:
        UsageError: it is no URL of a database that can hold a study, or the option has a password in it.
    """
    if option is not None:
        if _has_password(option):
            raise UsageError(
                f"{OPTION}: has a password in it, and arguments are seen by everyone on the machine; leave it out, and "
                f"put the whole URL into {VARIABLE}, or the password into the database's own file, such as ~/.pgpass"
            )
        return _checked(option, OPTION)
    given = os.environ.get(VARIABLE)
    return _checked(given, VARIABLE) if given else None


def without_password(text: str) -> str:
    """The URL of a database as it may be shown and kept."""
    from sqlalchemy import make_url

    if "@" not in text and "?" not in text:
        return text
    url = make_url(text)
    secrets = [key for key in url.query if _is_secret(key)]
    return url._replace(password=None).difference_update_query(secrets).render_as_string()  # `set` keeps it for None


def is_same(one: str | None, other: str | None) -> bool:
    """Whether both are the same database, however they are written; None is the run folder's own."""
    return one == other or (one is not None and other is not None and _place(one) == _place(other))


def address(storage: str) -> str:
    """The URL to connect with: TUNER_STORAGE where it names the same database, for only that may hold a password."""
    from sqlalchemy import make_url

    given, text = os.environ.get(VARIABLE), storage
    if given:
        with suppress(UsageError):
            if is_same(_checked(given, VARIABLE), storage):
                text = given
    url = make_url(text)
    return url.set(drivername=_DRIVERS.get(url.drivername, url.drivername)).render_as_string(hide_password=False)


def engine_options(url: str) -> dict[str, Any]:
    """How SQLAlchemy is to connect: with an end to every wait, and seeing what others have committed."""
    from sqlalchemy import make_url

    parsed = make_url(url)
    backend, _, driver = parsed.drivername.partition("+")
    if backend == "sqlite":
        return {"connect_args": {"timeout": 60}}  # seconds, for the other drivers' writes to end
    options: dict[str, Any] = {"pool_pre_ping": True, "isolation_level": "READ COMMITTED"}
    if driver in ("psycopg", "psycopg2", "pymysql", "mysqldb"):
        options["connect_args"] = {"connect_timeout": _CONNECT_S}
    if driver in ("psycopg", "psycopg2"):  # a server whose machine is gone says nothing
        options["connect_args"] |= {
            "keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3, "tcp_user_timeout": 60_000,
            # A driver that was halted in the middle of a write must not keep the others waiting.
            "options": f"-c idle_in_transaction_session_timeout={_HALTED_MS}",
        }  # fmt: skip
    return options


def look_up(storage: str, name: str) -> dict[str, Any] | None:
    """The sweep's identity that the study of this name carries, None where no trial of such a study was begun.

    Changes nothing.

    Raises:
        UsageError: the database cannot be used; said within 30 s.
    """
    from sqlalchemy import create_engine, func, inspect, make_url, select

    url = address(storage)
    parsed = make_url(url)
    if parsed.drivername.startswith("sqlite") and not Path(parsed.database or "").exists():
        folder = Path(parsed.database or "").parent
        if not os.access(folder, os.W_OK):
            raise UsageError(f"{storage}: {folder} is no folder that can be written to; make it, or name another file")
        return None
    with _explained(storage, parsed):
        engine = create_engine(url, **engine_options(url))
        with closing(engine.connect()) as connection:
            if not inspect(connection).has_table("trials"):
                return None
            from optuna.storages._rdb.models import StudyModel, StudyUserAttributeModel, TrialModel

            study_id = connection.scalar(select(StudyModel.study_id).where(StudyModel.study_name == name))
            of_study = (StudyUserAttributeModel.study_id == study_id, StudyUserAttributeModel.key == IDENTITY)
            carried = connection.scalar(select(StudyUserAttributeModel.value_json).where(*of_study))
            trials = connection.scalar(select(func.count()).where(TrialModel.study_id == study_id))
        engine.dispose()
    identity: dict[str, Any] = json.loads(carried) if carried else {}
    return identity if trials else None


@contextmanager
def told_when_lost(storage: str | None) -> Iterator[None]:
    """Have any error that the loss of the database led to end the command as one.

    Raises:
        StorageLost: the database is out of reach.
    """
    try:
        yield
    except Exception as error:
        cause: BaseException | None = error
        while storage and cause is not None:
            if _is_loss(cause):
                reason = _reason(cause, address(storage))
                raise StorageLost(f"{storage}: was lost ({reason}); once it is back the same command goes on") from None
            cause = cause.__cause__ or cause.__context__
        raise


def _is_loss(error: BaseException) -> bool:
    """Whether a database cannot be reached, or has ended the connection, as it does to a driver that was halted."""
    from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

    is_ended = isinstance(error, DBAPIError) and error.connection_invalidated
    return is_ended or isinstance(error, (InterfaceError, OperationalError))


def _checked(text: str, source: str) -> str:
    """The URL without its password, a file's as an absolute path; its errors do not repeat it."""
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise UsageError(f"{source}: is not the URL of a database; write one such as {_EXAMPLE}") from None
    if "@" in (url.host or ""):
        raise UsageError(f"{source}: write an @ in a user's name or a password as %40, so that it is not the host's")
    backend = url.get_backend_name()
    if backend == "sqlite":
        if not url.database or url.database == ":memory:" or url.database.startswith("file:"):
            raise UsageError(f"{source}: names no file; write one such as sqlite:////FOLDER/FILE.db")
        return f"sqlite:///{Path(url.database).absolute()}"
    if backend not in _PORTS:
        raise UsageError(f"{source}: {backend} is no database that can hold a study; write one such as {_EXAMPLE}")
    if not url.database:
        raise UsageError(f"{source}: names no database; write one such as {_EXAMPLE}")
    return without_password(text)


def _has_password(text: str) -> bool:
    """Whether there is one, also in what cannot be parsed."""
    user = text.partition("://")[2].rpartition("@")[0]
    keys = [part.partition("=")[0] for part in text.partition("?")[2].split("&")]
    return ":" in user or any(map(_is_secret, keys))


def _is_secret(key: str) -> bool:
    return "passw" in key.lower()


def _place(storage: str) -> tuple[str, str, int | None, str]:
    """Where a database is; who asks, and by which driver, is left out."""
    from sqlalchemy import make_url

    url = make_url(storage)
    backend = url.get_backend_name()
    if backend == "sqlite":
        return backend, "", None, str(Path(url.database or "").resolve())
    query = {key: value if isinstance(value, str) else value[0] for key, value in url.query.items()}
    host = url.host or query.get("host") or query.get("unix_socket") or "localhost"
    port = int(url.port or query.get("port") or _PORTS[backend])
    return backend, host.lower(), port, url.database or ""


@contextmanager
def _explained(storage: str, url: URL) -> Iterator[None]:
    """Have a database that cannot be used end the command with what to do, in words without the password."""
    from sqlalchemy.exc import NoSuchModuleError, SQLAlchemyError

    try:
        yield
    except (ImportError, NoSuchModuleError):
        raise UsageError(
            f"{storage}: needs the Python package {url.get_driver_name()}, which is not installed; "
            "pip install 'rllib-ppo-tuner[cluster]'"
        ) from None
    except SQLAlchemyError as error:
        reason = _reason(error, url.render_as_string(hide_password=False))
        if "password" in reason or "ccess denied" in reason or "authentication" in reason:
            remedy = f"put the whole URL with its password into {VARIABLE}, or the password into ~/.pgpass"
        elif "does not exist" in reason or "nknown database" in reason:
            remedy = f"create the database {url.database} and its user, or name another"
        else:
            remedy = "start the database, or mend host and port"
        raise UsageError(f"{storage}: cannot be used ({reason}); {remedy}") from None


def _reason(error: BaseException, url: str) -> str:
    """What a database said, in one line and without the password."""
    from sqlalchemy import make_url

    said = " ".join(str(getattr(error, "orig", None) or error).split())
    password = make_url(url).password
    return said.replace(str(password), "***") if password else said
