"""Who may write to a store: one driver at a time, by a claim there that it renews and that runs out without it."""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from tuner.errors import AlreadyRunning, Interrupted, StoreError
from tuner.store import ANSWER_S, Store, within

logger = logging.getLogger(__name__)

OWNER = "owner.json"
RENEW_EVERY_S = 30.0
EXPIRES_S = 120.0
LOOK_EVERY_S = 2.0


class Owner:
    """This driver's claim on a store."""

    def __init__(self, store: Store, driver: str, copy: str) -> None:
        """Claim `store` for the driver of that id; `copy` is the id of its working copy, which it has locked."""
        self.lost: AlreadyRunning | None = None  # why the claim is no longer ours
        self._store = store
        self._driver = driver
        self._copy = copy
        self._renewals = 0

    @contextmanager
    def claiming(self, is_stopping: Callable[[], bool]) -> Iterator[None]:
        """Own the store while the context lasts.

        Raises:
            StoreError: the store cannot be written.
            AlreadyRunning: a live driver owns it.
            Interrupted: somebody asked to stop while it was not yet clear whether the owner lives.
        """
        self._claim(is_stopping)
        ended = threading.Event()
        renewing = threading.Thread(target=self._keep_renewing, args=(ended,), daemon=True, name="store-owner")
        renewing.start()
        try:
            yield
        finally:
            ended.set()
            renewing.join(5.0)  # longer only where the store hangs
            with suppress(StoreError):
                if self._is_ours(self._store.read(OWNER)):
                    self._store.remove([OWNER])

    def _claim(self, is_stopping: Callable[[], bool]) -> None:
        now = within(ANSWER_S, self._store.url, self._time_there)
        began = time.monotonic()
        first: bytes | None = None
        while not self._store.create(OWNER, self._content()):
            theirs, renewed = self._store.read(OWNER), self._store.modified(OWNER)
            if theirs is None or renewed is None:  # it is just being removed
                continue
            if self._is_ours(theirs):  # the store wrote it, and its answer was lost
                return
            who, age_s = _said(theirs), now - renewed.timestamp() + time.monotonic() - began
            name = f"process {who.get('pid')} on {who.get('host')}"
            if (who.get("copy"), who.get("host")) == (self._copy, socket.gethostname()):
                self._take_over(f"{name}, which has died")  # else it would hold the lock on the working copy
            elif age_s >= EXPIRES_S:
                self._take_over(f"{name}, which has not been heard of for {age_s:.0f} s")
            elif first is not None and theirs != first:
                raise AlreadyRunning(
                    f"{self._store.url}: is in use by another driver, {name}; wait for it, end it, or use "
                    "another --name"
                )
            else:
                if first is None:
                    logger.info(
                        "%s: was last claimed %.0f s ago by %s; waiting to see whether that still runs, at most %.0f s",
                        self._store.url, max(age_s, 0), name, EXPIRES_S,
                    )  # fmt: skip
                first = theirs
                if is_stopping():
                    raise Interrupted(f"{self._store.url}: stopped before its owner was known to be dead, {name}; "
                                      "nothing was started, the same command goes on")  # fmt: skip
                time.sleep(LOOK_EVERY_S)

    def _time_there(self) -> float:
        """Seconds since the epoch by the store's clock; and whether anything can be written there at all."""
        probe = f"probe-{self._driver}"
        self._store.create(probe, b"may be removed\n")
        written = self._store.modified(probe)
        self._store.remove([probe])
        if written is None:
            raise StoreError(f"{self._store.url}: what is written there cannot be read; use another store")
        return written.timestamp()

    def _take_over(self, whose: str) -> None:
        logger.info("%s: taken over from %s", self._store.url, whose)
        self._store.remove([OWNER])

    def _keep_renewing(self, ended: threading.Event) -> None:
        while not ended.wait(RENEW_EVERY_S) and self.lost is None:
            with suppress(StoreError):  # who uploads says so
                self._renew()

    def _renew(self) -> None:
        self._renewals += 1
        there = self._store.read(OWNER)
        if there is None:
            self._store.create(OWNER, self._content())
        elif self._is_ours(there):
            self._store.put({OWNER: self._content()})
        else:
            who = _said(there)
            self.lost = AlreadyRunning(
                f"{self._store.url}: was taken over by process {who.get('pid')} on {who.get('host')}, as nothing was "
                "heard from here; end one of the two, then the same command goes on from what is there"
            )

    def _is_ours(self, content: bytes | None) -> bool:
        return content is not None and _said(content).get("driver") == self._driver

    def _content(self) -> bytes:
        said = {"driver": self._driver, "copy": self._copy, "host": socket.gethostname(), "pid": os.getpid(),
                "renewals": self._renewals}  # fmt: skip
        return json.dumps(said).encode()


def _said(content: bytes) -> dict[str, Any]:
    """What a claim says; nothing where it was torn."""
    try:
        said = json.loads(content)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}
