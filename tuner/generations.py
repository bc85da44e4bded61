"""What a store holds of a run folder: generations, each with its manifest, and which of them came from which."""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tuner.errors import StateError
from tuner.files import seal_of
from tuner.layout import inside, link_inside
from tuner.snapshot import Content

FORMAT = 1
_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Head:
    """A state of a run folder: the drivers that led to it, each with the last generation that it wrote."""

    lineage: tuple[tuple[str, int], ...] = ()

    @property
    def generation(self) -> int:
        """How many times the folder had been pushed."""
        return self.lineage[-1][1] if self.lineage else 0

    def next(self, driver: str, generation: int) -> Head:
        """The state that `driver` makes of this one."""
        before = self.lineage[:-1] if self.lineage and self.lineage[-1][0] == driver else self.lineage
        return Head((*before, (driver, generation)))

    def leads_to(self, later: Head) -> bool:
        """Whether `later` is this state, or was made from it."""
        return not self.lineage or any(
            (driver, generation) >= self.lineage[-1] for driver, generation in later.lineage if driver == self._driver
        )

    @property
    def _driver(self) -> str:
        return self.lineage[-1][0]


NOTHING = Head()


@dataclass(frozen=True)
class Manifest:
    """One generation: every file of the run folder with what it holds, and its links."""

    head: Head = NOTHING
    files: Mapping[str, Content] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)

    @property
    def objects(self) -> set[str]:
        """The names of what it needs."""
        return {object_name(content.sha256) for content in self.files.values()}

    def to_bytes(self) -> bytes:
        """The manifest as it is stored."""
        files = {name: asdict(content) for name, content in self.files.items()}
        written_by = f"process {os.getpid()} on {socket.gethostname()}"
        content = {"format": FORMAT, "written_by": written_by, "lineage": self.head.lineage, "files": files,
                   "links": dict(self.links)}  # fmt: skip
        return json.dumps(content | {"seal": seal_of(content)}).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Manifest:
        """The manifest that was stored.

        Raises:
            ValueError: it was damaged, or it names what is no file in a run folder.
            StateError: a newer version of this project wrote it.
        """
        try:
            content = json.loads(data)
            seal = content.pop("seal")
            if seal != seal_of(content):
                raise ValueError("it is not as it was written")
            if content["format"] != FORMAT:
                raise StateError(f"the store's newest manifest has format {content['format']}, this version reads "
                                 f"{FORMAT}; update this project")  # fmt: skip
            head = Head(tuple((str(driver), int(generation)) for driver, generation in content["lineage"]))
            files = {name: Content(str(said["sha256"]), int(said["size"])) for name, said in content["files"].items()}
            links = dict(content["links"])
            paths = [inside(Path(), name) for name in files]
            paths += [link_inside(Path(), name, target) for name, target in links.items()]
            folders = {folder for path in paths for folder in path.parents}
            if len({*paths}) < len(paths) or folders.intersection(paths):
                raise ValueError("a name in it stands for two things")
            for holds in files.values():
                if not _HASH.fullmatch(holds.sha256):
                    raise ValueError(f"{holds.sha256!r} is no hash")
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"it is no manifest ({type(error).__name__})") from error
        return cls(head, files, links)


def object_name(sha256: str) -> str:
    """The object that holds the bytes of that hash."""
    return f"objects/{sha256}"


def manifest_name(generation: int) -> str:
    """The object that holds a generation's manifest."""
    return f"manifests/{generation:09d}"
