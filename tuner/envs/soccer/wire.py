"""The ML-Agents messages that a player exchanges with its trainer (communicator API 1.5.0), and no others."""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

API_VERSION = "1.5.0"
PACKAGE_VERSION = "2.1.0-exp.1"  # Unity's, of the player that soccer-twos ships
EXCHANGE = "/communicator_objects.UnityToExternalProto/Exchange"
STEP, RESET, QUIT = 0, 1, 2  # CommandProto
OK = 200  # the header's status; everything else ends the connection

_PACKAGE = "communicator_objects"
_KINDS = {
    "bool": descriptor_pb2.FieldDescriptorProto.TYPE_BOOL,
    "bytes": descriptor_pb2.FieldDescriptorProto.TYPE_BYTES,
    "float": descriptor_pb2.FieldDescriptorProto.TYPE_FLOAT,
    "int32": descriptor_pb2.FieldDescriptorProto.TYPE_INT32,
    "string": descriptor_pb2.FieldDescriptorProto.TYPE_STRING,
}

# message: field -> (kind or message, number); * repeats it. A map is the repeated entry that it is on the wire, and an
# enum an int32. A field that is not listed is skipped when it comes and left at its default when it is sent.
_MESSAGES: dict[str, dict[str, tuple[str, int]]] = {
    "HeaderProto": {"status": ("int32", 1), "message": ("string", 2)},
    "FloatData": {"data": ("*float", 1)},
    "ObservationProto": {"shape": ("*int32", 1), "float_data": ("FloatData", 4), "dimension_properties": ("*int32", 6),
                         "name": ("string", 8)},
    "AgentInfoProto": {"reward": ("float", 7), "done": ("bool", 8), "max_step_reached": ("bool", 9),
                       "id": ("int32", 10), "observations": ("*ObservationProto", 13), "group_id": ("int32", 14),
                       "group_reward": ("float", 15)},
    "ListAgentInfoProto": {"value": ("*AgentInfoProto", 1)},
    "AgentInfosEntry": {"key": ("string", 1), "value": ("ListAgentInfoProto", 2)},
    "UnityRLOutputProto": {"agentInfos": ("*AgentInfosEntry", 2), "side_channel": ("bytes", 3)},
    "ActionSpecProto": {"num_discrete_actions": ("int32", 2), "discrete_branch_sizes": ("*int32", 3)},
    "BrainParametersProto": {"brain_name": ("string", 7), "is_training": ("bool", 8),
                             "action_spec": ("ActionSpecProto", 9)},
    "UnityRLCapabilitiesProto": {"baseRLCapabilities": ("bool", 1), "concatenatedPngObservations": ("bool", 2),
                                 "compressedChannelMapping": ("bool", 3), "hybridActions": ("bool", 4),
                                 "trainingAnalytics": ("bool", 5), "variableLengthObservation": ("bool", 6),
                                 "multiAgentGroups": ("bool", 7)},
    "UnityRLInitializationOutputProto": {"name": ("string", 1), "communication_version": ("string", 2),
                                         "brain_parameters": ("*BrainParametersProto", 5),
                                         "package_version": ("string", 7),
                                         "capabilities": ("UnityRLCapabilitiesProto", 8)},
    "UnityOutputProto": {"rl_output": ("UnityRLOutputProto", 1),
                         "rl_initialization_output": ("UnityRLInitializationOutputProto", 2)},
    "AgentActionProto": {"discrete_actions": ("*int32", 7)},
    "ListAgentActionProto": {"value": ("*AgentActionProto", 1)},
    "AgentActionsEntry": {"key": ("string", 1), "value": ("ListAgentActionProto", 2)},
    "UnityRLInputProto": {"agent_actions": ("*AgentActionsEntry", 1), "command": ("int32", 4),
                          "side_channel": ("bytes", 5)},
    "UnityRLInitializationInputProto": {"seed": ("int32", 1), "communication_version": ("string", 2)},
    "UnityInputProto": {"rl_input": ("UnityRLInputProto", 1),
                        "rl_initialization_input": ("UnityRLInitializationInputProto", 2)},
    "UnityMessageProto": {"header": ("HeaderProto", 1), "unity_output": ("UnityOutputProto", 2),
                          "unity_input": ("UnityInputProto", 3)},
}  # fmt: skip


def _classes() -> dict[str, type[Any]]:
    """The message classes, in a pool of their own: another package may hold the whole of these messages."""
    file = descriptor_pb2.FileDescriptorProto(name="soccer_wire.proto", package=_PACKAGE, syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, (kind, number) in fields.items():
            added = message.field.add(name=field, number=number)
            added.label = added.LABEL_REPEATED if kind.startswith("*") else added.LABEL_OPTIONAL
            kind = kind.lstrip("*")
            if kind in _KINDS:
                added.type = _KINDS[kind]
            else:
                added.type, added.type_name = added.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}")) for name in _MESSAGES
    }


Message: type[Any] = _classes()["UnityMessageProto"]
