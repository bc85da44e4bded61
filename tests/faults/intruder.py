"""Somebody on the network: tries every call that Ray's programs know, and HTTP, on every port of a sweep.

`python intruder.py HOST PORT…`, with INTRUDERS_TOKEN in the environment where he has one; prints JSON: for each port
the status of each call, and the answers to HTTP.
"""

from __future__ import annotations

import http.client
import importlib.util
import json
import os
import re
import sys
from pathlib import Path

import grpc

TIMEOUT_S = 5.0
PATHS = (
    "/",
    "/metrics",
    "/api/jobs/",
    "/api/version",
    "/nodes",
    "/get_runtime_envs_info",
    "/get_or_create_runtime_env",
)
# A call of it without a node's id ends the process that is called, token or no token: see docs/security.md.
FATAL = "/ray.rpc.syncer.RaySyncer/StartSync"
PROGRAMS = ("core/src/ray/gcs/gcs_server", "core/src/ray/raylet/raylet", "_raylet.so")


def calls() -> list[str]:
    """Every call that is named in one of Ray's programs: more than its Python modules know."""
    spec = importlib.util.find_spec("ray")
    assert spec is not None and spec.origin is not None
    programs = [(Path(spec.origin).parent / name).read_bytes() for name in PROGRAMS]
    found = {name for data in programs for name in re.findall(rb"/ray\.rpc[\w.]*/\w+", data)}
    return sorted({name.decode() for name in found} - {FATAL})


def statuses(host: str, port: int, token: str | None, names: list[str]) -> dict[str, str]:
    """How each call without arguments ends: a status of gRPC's, OK where it was done."""
    found = {}
    metadata = [("authorization", f"Bearer {token}")] if token else []
    with grpc.insecure_channel(f"{host}:{port}", options=[("grpc.enable_http_proxy", 0)]) as channel:
        for name in names:
            try:
                channel.unary_unary(name)(b"", metadata=metadata, timeout=TIMEOUT_S)
                found[name] = "OK"
            except grpc.RpcError as error:
                found[name] = error.code().name
    return found


def answers(host: str, port: int) -> dict[str, tuple[int, str]]:
    """What HTTP is answered with, status and body; nothing from what speaks no HTTP."""
    found = {}
    for method in ("GET", "POST", "PUT", "DELETE"):
        for path in PATHS:
            connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
            try:
                connection.request(method, path, body=b"{}" if method in ("POST", "PUT") else None)
                answer = connection.getresponse()
                found[f"{method} {path}"] = answer.status, answer.read().decode(errors="replace")
            except (OSError, http.client.HTTPException):
                return found
            finally:
                connection.close()
    return found


def main() -> None:
    """Try everything on every port; with a token, what only looks."""
    host, *ports = sys.argv[1:]
    token = os.environ.get("INTRUDERS_TOKEN")
    names, tried = calls(), {}
    for port in map(int, ports):
        seen = answers(host, port)
        if token:
            by_call = statuses(host, port, token, [name for name in names if "JobInfo" in name and "GetAll" in name])
        else:
            by_call = {} if seen else statuses(host, port, None, names)
        tried[port] = {"http": seen, "calls": by_call}
    json.dump(tried, sys.stdout)


if __name__ == "__main__":
    main()
