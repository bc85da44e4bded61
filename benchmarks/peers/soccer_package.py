"""The soccer-twos package called directly in its own old Python: plays so many decisions a line, says the seconds."""

from __future__ import annotations

import socket
import sys
import time
import types

import numpy as np


def main(player: str) -> None:
    """Make the package's environment with this player, then play what stdin asks for."""
    stub = types.ModuleType("soccer_twos.package")  # else the import would download the Unity player
    stub.check_package = lambda: None
    stub.TRAINING_ENV_PATH = stub.ROLLOUT_ENV_PATH = None
    sys.modules[stub.__name__] = stub
    import soccer_twos

    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    env = soccer_twos.make(variation="multiagent_player", env_path=player, base_port=port)
    env.reset()
    generator = np.random.default_rng(1)
    for line in sys.stdin:
        actions = generator.integers(0, 3, (int(line), 4, 3)).astype(np.uint8)
        start = time.perf_counter()
        for each in actions:
            _, _, done, _ = env.step({player: each[player] for player in range(4)})
            if done["__all__"]:
                env.reset()
        print(f"\nseconds {time.perf_counter() - start}", flush=True)  # the package prints lines of its own
    env.close()


if __name__ == "__main__":
    main(sys.argv[1])
