"""Soccer-Twos, one player against a random team: score more often than the other side, judged by matches."""

from tuner.space import Choice, Float, SearchSpace

space = SearchSpace(
    env="tuner/SoccerTwos-v0",
    env_config={
        "variation": "team_vs_policy", "single_player": True, "flatten_branched": True, "opponent": "random",
        "ball_progress": 0.0, "ball_distance": 0.0,
    },
    # A goal is worth up to 2 and one against -2: 1.5 is about nine wins in ten, most within a quarter of a minute. PPO
    # reaches it in 100,000 to 300,000 steps; a script that goes around the ball and shoots gets 1.8.
    threshold=1.5,
    window=50,
    max_episodes=1000,
    max_steps=200_000,
    seed=10,
    trials=24,
    race_seeds=6,
    judge="tuner.envs.soccer.judge:against_scripts",
    # The course notebook's; its 8 workers x 2 environments x 8 steps, a batch of 256, are 16 x 16 in one process.
    baseline={
        "lr": 5e-4, "lr_anneal_steps": None, "train_batch_size": 256, "minibatch_size": 32, "num_epochs": 6,
        "gamma": 0.99, "lambda_": 0.95, "clip_param": 0.5, "vf_clip_param": 1e5, "vf_loss_coeff": 0.5,
        "entropy_coeff": 0.0, "use_kl_loss": False, "grad_clip": None,
        "num_env_runners": 0, "num_envs_per_env_runner": 16, "rollout_fragment_length": 16,
        "fcnet_hiddens": [64, 32], "fcnet_activation": "relu", "vf_share_layers": False,
    },
    params={
        "lr": Float(1e-4, 3e-3, log=True),
        "train_batch_size": Choice(256, 1024, 2048, 4096),
        "minibatch_size": Choice(32, 128, 256, 512),
        "num_epochs": Choice(3, 6, 10),
        "gamma": Choice(0.97, 0.98, 0.99),
        "lambda_": Choice(0.9, 0.95),
        "clip_param": Choice(0.2, 0.3, 0.5),
        "entropy_coeff": Choice(0.0, 0.003, 0.01),
        "num_envs_per_env_runner": Choice(16, 32),
        # The shaping's weights: an episode's shaping sums to 0, so these move no score but by what is learned.
        "env_config.ball_progress": Choice(0.0, 0.5, 1.0, 2.0),
        "env_config.ball_distance": Choice(0.0, 0.5, 1.0, 2.0),
    },
)  # fmt: skip
