"""CartPole-v1: reach a mean reward of 475 over 50 episodes in as few episodes as possible."""

from tuner.space import Choice, Float, SearchSpace

space = SearchSpace(
    env="CartPole-v1",
    threshold=475,
    window=50,
    max_episodes=1000,
    seed=10,
    trials=64,
    # The course notebook's PPO_01; its 4 workers x 2 environments x 8 steps are 8 x 16 in one process.
    baseline={
        "lr": 5e-4, "lr_anneal_steps": None, "train_batch_size": 128, "minibatch_size": 32, "num_epochs": 6,
        "gamma": 0.99, "lambda_": 0.95, "clip_param": 0.5, "vf_clip_param": 1e5, "vf_loss_coeff": 0.5,
        "entropy_coeff": 0.0, "use_kl_loss": False, "grad_clip": None,
        "num_env_runners": 0, "num_envs_per_env_runner": 8, "rollout_fragment_length": 16,
        "fcnet_hiddens": [64, 32], "fcnet_activation": "relu", "vf_share_layers": False,
    },
    params={
        "lr": Float(1e-4, 1e-2, log=True),
        "lr_anneal_steps": Choice(None, 30_000, 60_000, 120_000),
        "train_batch_size": Choice(64, 128, 256, 512),
        "minibatch_size": Choice(32, 64, 128, 256),
        "num_epochs": Choice(4, 6, 10, 20, 30),
        "gamma": Choice(0.95, 0.98, 0.99, 0.995),
        "lambda_": Choice(0.8, 0.9, 0.95, 0.98),
        "clip_param": Choice(0.1, 0.2, 0.3, 0.5),
        "entropy_coeff": Choice(0.0, 0.001, 0.01),
        "vf_loss_coeff": Choice(0.25, 0.5, 1.0),
        "num_envs_per_env_runner": Choice(1, 2, 4, 8),
        "fcnet_hiddens": Choice([64, 32], [64, 64]),
        "fcnet_activation": Choice("relu", "tanh"),
    },
)  # fmt: skip
