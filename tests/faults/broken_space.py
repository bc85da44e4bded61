"""A space whose grid has one trial for each way in which an environment can be wrong."""

import tests.broken  # noqa: F401 registers it
from tuner.space import Choice, SearchSpace

space = SearchSpace(
    env="tests/Broken-v0",
    window=10,
    max_episodes=60,
    trials=100,
    env_config={"how": "sound"},
    baseline={
        "train_batch_size": 64, "minibatch_size": 32, "num_epochs": 1, "num_envs_per_env_runner": 2,
        "fcnet_hiddens": [8],
    },
    params={
        "env_config.how": Choice(
            "sound", "step raises", "reset raises", "wrong shape", "observation NaN",
            "reward NaN", "reward infinite", "reward missing", "reward too large",
        ),
    },
)  # fmt: skip
