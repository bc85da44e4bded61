"""CartPole-v1 with small updates: trials of a few seconds, for tests of everything but learning."""

from tuner.space import Choice, Float, SearchSpace

space = SearchSpace(
    env="CartPole-v1",
    threshold=475,
    max_episodes=300,
    seed=10,
    trials=3,
    baseline={
        "lr": 1e-4, "train_batch_size": 256, "minibatch_size": 128, "num_epochs": 1, "num_envs_per_env_runner": 8,
        "fcnet_hiddens": [16], "gamma": 0.99,
    },
    params={"lr": Float(1e-5, 1e-2, log=True), "gamma": Choice(0.9, 0.95, 0.99)},
)  # fmt: skip
