"""A folder in a store that fsspec knows, such as S3: whole objects by name, and every failure of it as a StoreError."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from typing import Any, TypeVar

from tuner.disk import is_full
from tuner.errors import StoreError, UsageError

ANSWER_S = 20.0  # for the first word of a store; bad input is told within 30 s
_URL = re.compile(r"[a-z][a-z0-9+.-]*://[A-Za-z0-9._/-]*[A-Za-z0-9._-]/*")

T = TypeVar("T")


def is_url(out: object) -> bool:
    """Whether an `--out` or a RUN names a place in a store; any path does not."""
    return "://" in str(out)


def check_url(url: str) -> str:
    """A store's URL without slashes at its end.

    Raises:
        UsageError: it holds more than plain names: credentials, for example, which would be written.
    """
    scheme, _, place = url.partition("://")
    if not _URL.fullmatch(url) or {".", ".."} & set(place.split("/")):
        raise UsageError(  # which must not repeat a password
            f"{scheme}://…: a store's URL is SCHEME://BUCKET/FOLDER, of letters, digits, dots, dashes, "
            "underscores and slashes; credentials come from the environment or the store's own files, not from the URL"
        )
    return url.rstrip("/")


class Store:
    """One folder in a store. An object is written whole or not at all, as object stores do it."""

    def __init__(self, url: str) -> None:
        """Find who speaks to this kind of store.

        Raises:
            UsageError: the URL is not one, or nobody does.
        """
        self.url = check_url(url)
        self._files, self._root = within(ANSWER_S, self.url, lambda: _connect(self.url))

    def put(self, objects: Mapping[str, bytes]) -> None:
        """Write objects, many at once where the store can."""
        if objects:
            self._ask(lambda: self._files.pipe({self._path(name): data for name, data in objects.items()}))

    def put_file(self, name: str, file: str) -> None:
        """Write a file for people to open: the store learns what kind of file it is."""
        self._ask(lambda: self._files.put_file(file, self._path(name)))

    def create(self, name: str, data: bytes) -> bool:
        """Write an object unless there is one of that name; False where there is."""

        def write() -> bool:
            try:
                self._files.pipe_file(self._path(name), data, mode="create")
            except OSError as error:
                if not isinstance(error, FileExistsError) and not _is_precondition(error):
                    raise
                return False
            return True

        return self._ask(write)

    def read(self, name: str) -> bytes | None:
        """An object's bytes; None where there is none of that name."""
        return self.read_all([name])[name]

    def read_all(self, names: Collection[str]) -> dict[str, bytes | None]:
        """Objects' bytes by name, many at once where the store can; None for what is not there."""
        paths = {self._path(name): name for name in names}

        def fetch() -> dict[str, bytes | None]:
            found = self._files.cat(list(paths), on_error="return") if paths else {}
            for data in found.values():
                if isinstance(data, Exception) and not isinstance(data, FileNotFoundError):
                    raise data
            return {name: None if isinstance(found[path], Exception) else found[path] for path, name in paths.items()}

        return self._ask(fetch)

    def names(self, folder: str) -> list[str]:
        """The names in a folder, which need not exist."""

        def listed() -> list[str]:
            try:
                found = self._files.ls(self._path(folder), detail=False)
            except FileNotFoundError:
                return []
            return [str(path).rstrip("/").rpartition("/")[2] for path in found]

        return self._ask(listed)

    def modified(self, name: str) -> datetime | None:
        """When an object was written by the store's own clock; None where there is none of that name."""

        def look() -> datetime | None:
            try:
                when: datetime = self._files.modified(self._path(name))
            except FileNotFoundError:
                return None
            return when

        return self._ask(look)

    def remove(self, names: Collection[str]) -> None:
        """Remove objects; one that is gone already is none to remove."""

        def remove() -> None:
            try:
                self._files.rm([self._path(name) for name in names])
            except FileNotFoundError:
                return

        if names:
            self._ask(remove)

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _ask(self, call: Callable[[], T]) -> T:
        """What the store answers.

        Raises:
            StoreError: it does not.
        """
        try:
            return call()
        except Exception as error:  # noqa: BLE001 each store has errors of its own
            problem = _problem(error)
        raise StoreError(f"{self.url}: {problem}")  # without a cause: a full store is no full disk


def within(seconds: float, url: str, call: Callable[[], T]) -> T:
    """What `call` returns, or raises, where it does so in time.

    Raises:
        StoreError: it takes longer; nothing waits for it any more.
    """
    done: list[T] = []
    failed: list[BaseException] = []

    def work() -> None:
        try:
            done.append(call())
        except BaseException as error:  # noqa: BLE001 raised below, in the caller's thread
            failed.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    if failed:
        raise failed[0]
    if not done:
        raise StoreError(f"{url}: no answer within {seconds:g} s; check the address and the network")
    return done[0]


def _connect(url: str) -> tuple[Any, str]:
    """fsspec's file system for a URL, without any cache: another machine may write there; and the path in it."""
    scheme = url.partition("://")[0]
    try:
        import fsspec
    except ImportError:
        raise UsageError(f"{url}: needs fsspec; pip install 'rllib-ppo-tuner[cluster]'") from None
    options = {"auto_mkdir": True} if scheme in ("file", "local") else {}
    try:
        files, root = fsspec.core.url_to_fs(url, use_listings_cache=False, skip_instance_cache=True, **options)
    except ImportError as error:
        raise UsageError(f"{url}: {error}; for S3: pip install 'rllib-ppo-tuner[cluster]'") from None
    except ValueError as error:
        raise UsageError(f"{url}: {error}; fsspec knows no such store; s3://BUCKET/FOLDER is one") from None
    except Exception as error:  # noqa: BLE001 each store has errors of its own
        problem = _problem(error)
    else:
        return files, root.rstrip("/")
    raise StoreError(f"{url}: {problem}")


def _is_precondition(error: OSError) -> bool:
    """Whether a store of S3's kind says that there is an object; s3fs knows it by words that AWS alone adds."""
    response = getattr(error.__cause__, "response", {})
    return response.get("Error", {}).get("Code") in ("PreconditionFailed", "412")


def _problem(error: BaseException) -> str:
    """Why a store did not do what it was asked, and what to do."""
    lines = str(error).strip().splitlines()
    said = f"{type(error).__name__}: {lines[0]}"[:300] if lines else type(error).__name__
    if is_full(error):
        return f"is full ({said}); free some of it, or raise its quota"
    if isinstance(error, FileNotFoundError):
        return f"no such bucket or folder ({said}); make it, or mend the URL"
    if isinstance(error, PermissionError) or "Credential" in type(error).__name__:
        return (
            f"refused ({said}); give credentials that may read and write there, by the environment or the store's files"
        )
    return f"cannot be used ({said}); check the address, the network and the credentials"
