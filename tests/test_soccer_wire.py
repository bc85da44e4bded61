"""The messages of a player: the same on the wire as those of the ML-Agents package."""

from __future__ import annotations

import json
import subprocess

from google.protobuf.descriptor import FieldDescriptor

from tuner.envs.soccer import wire
from tuner.envs.soccer.interpreter import WorkerEnvironment

# Every message that the package's own modules know, and its fields: number, type, whether it is repeated.
THEIRS = """
import json
from mlagents_envs.communicator_objects.unity_message_pb2 import UnityMessageProto

found = {}


def look(message):
    if message.name in found:
        return
    found[message.name] = {f.name: (f.number, f.type, f.label == f.LABEL_REPEATED) for f in message.fields}
    for field in message.fields:
        if field.message_type is not None:
            look(field.message_type)


look(UnityMessageProto.DESCRIPTOR)
print(json.dumps(found))
"""


def test_every_field_is_the_packages_own(soccer_worker: WorkerEnvironment) -> None:
    said = subprocess.run([soccer_worker.python, "-I", "-c", THEIRS], capture_output=True, text=True, check=True)
    theirs = json.loads(said.stdout)
    pool = wire.Message.DESCRIPTOR.file.message_types_by_name
    assert "AgentInfoProto" in pool and "AgentActionProto" in pool
    for name, message in pool.items():
        for field in message.fields:
            number, kind, is_repeated = theirs[name][field.name]
            if kind == FieldDescriptor.TYPE_ENUM:
                kind = FieldDescriptor.TYPE_INT32  # the same varint
            assert (field.number, field.type, field.is_repeated) == (number, kind, is_repeated), f"{name}.{field.name}"


def test_a_field_that_is_not_listed_is_skipped() -> None:
    action = wire.Message().unity_input.rl_input.agent_actions.add().value.value.add(discrete_actions=[0, 1, 2])
    deprecated = b"\x0a\x04\x00\x00\x80\x3f"  # vector_actions_deprecated, which the package still sends
    assert list(type(action).FromString(deprecated + action.SerializeToString()).discrete_actions) == [0, 1, 2]
