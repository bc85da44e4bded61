"""A space whose trials take milliseconds: the faults' own."""

from tuner.space import Choice, Float, SearchSpace

space = SearchSpace(
    env="CartPole-v1",
    threshold=80,
    window=5,
    max_episodes=30,
    seed=1,
    trials=6,
    baseline={"lr": 1e-3},
    params={"lr": Float(1e-4, 1e-2, log=True), "gamma": Choice(0.98, 0.99, 0.995)},
)
