"""`tuner play RUN`: play the best policy greedily on fresh seeds, draw it, or write it as an agent for soccer_twos."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tuner import command, environment, envs
from tuner.errors import UsageError
from tuner.layout import check_possible, check_trust
from tuner.mirror import working_copy
from tuner.policy import greedy, load_policy, policy_folder

if TYPE_CHECKING:
    import gymnasium
    from ray.rllib.core.rl_module import RLModule

# Searches use small seeds; these are far from them.
FRESH_SEED = 1_000_000
# A picture of every second step, of the first 1,000 at most: a whole match of Soccer-Twos.
_STRIDE = 2
_PICTURES = 500
_LAST_MS = 1000


def main(argv: Sequence[str] | None = None) -> int:
    """Play and return the exit code."""
    return command.run(_main, parser(), argv)


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = command.parser("play", __doc__)
    parser.add_argument("run", metavar="RUN", help="a run folder or its URL, or the folder of one trial or training")
    parser.add_argument("--episodes", type=int, default=20, metavar="N", help="episodes to play (20)")
    parser.add_argument("--seed", type=int, default=FRESH_SEED, metavar="N", help=f"first seed ({FRESH_SEED})")
    command.add_trust(parser)
    products = parser.add_mutually_exclusive_group()
    products.add_argument("--gif", type=Path, metavar="FILE", help="draw the first episode into FILE")
    products.add_argument(
        "--export", type=Path, metavar="FILE", help="play nothing; write an agent for soccer_twos.evaluate into FILE"
    )
    return parser


def _main(args: argparse.Namespace) -> int:
    if args.episodes < 1:
        raise UsageError(f"--episodes {args.episodes}: must be at least 1")
    if args.seed < 0:
        raise UsageError(f"--seed {args.seed}: must be at least 0")
    run = working_copy(args.run)
    for word, path in (("RUN", run), ("--gif", args.gif), ("--export", args.export)):
        if path is not None:
            check_possible(path, word)
    if args.gif and not args.gif.absolute().parent.is_dir():
        raise UsageError(f"--gif {args.gif}: no such folder {args.gif.parent}; make it first")
    check_trust(run, args.trust)
    if args.export:
        from tuner.envs.soccer.agent import write_agent

        write_agent(run, args.export)
        print(f"agent       {args.export}")
        return 0
    folder, config = policy_folder(run)
    if not args.trust:
        envs.check_no_policy(config["env"], config["env_config"])
    module = load_policy(folder)
    with closing(environment.make(config["env"], config["env_config"])) as env:
        rewards = [sum(reward for reward, _ in episode(module, env, args.seed + i)) for i in range(args.episodes)]
    low, high = interval(rewards)
    print(
        f"mean reward {np.mean(rewards):.1f} over {len(rewards)} episodes, 95 % interval {low:.1f} to {high:.1f}, "
        f"lowest {min(rewards):.1f}; seeds {args.seed} to {args.seed + args.episodes - 1}"
    )
    if args.gif:
        draw(module, config, args.seed, args.gif)
        print(f"picture     {args.gif}")
    return 0


def episode(
    module: RLModule, env: gymnasium.Env[Any, Any], seed: int
) -> Iterator[tuple[float, NDArray[np.uint8] | None]]:
    """Play one episode greedily: each step's reward, and the picture after it where the environment draws any.

    Several agents share the policy; their rewards are summed.
    """
    policy = greedy(module, module.action_space)
    observation, _ = env.reset(seed=seed)
    is_over: Any = False
    while not is_over:
        if isinstance(observation, dict):
            step: Any = env.step({agent: policy(seen[None])[0] for agent, seen in observation.items()})
            observation, reward = step[0], sum(step[1].values())
            is_over = step[2]["__all__"] or step[3]["__all__"]
        else:
            observation, reward, terminated, truncated, _ = env.step(policy(observation[None])[0])
            is_over = terminated or truncated
        picture: Any = env.render() if env.render_mode else None
        yield float(reward), picture


def interval(rewards: Sequence[float]) -> tuple[float, float]:
    """A 95 % interval of the mean, by bootstrap (BCa); the mean itself where all rewards are alike."""
    from scipy.stats import bootstrap

    if len(set(rewards)) < 2:
        return rewards[0], rewards[0]
    found = bootstrap((rewards,), np.mean, rng=np.random.default_rng(0)).confidence_interval
    return float(found.low), float(found.high)


def draw(module: RLModule, config: dict[str, Any], seed: int, path: Path) -> None:
    """Draw one episode as an animated GIF, at the pace of the environment's `render_fps`; its end stays for a second.

    Raises:
        UsageError: the environment draws nothing, or the file cannot be written.
    """
    from PIL import Image

    # Pictures need neither a screen nor a sound card.
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    os.environ.setdefault("SDL_AUDIODRIVER", "dummy")
    pictures: list[Image.Image] = []
    with closing(environment.make(config["env"], config["env_config"], render_mode="rgb_array")) as env:
        picture_ms = round(_STRIDE * 1000 / env.metadata.get("render_fps", 50))
        picture = None
        for index, (_, picture) in enumerate(episode(module, env, seed)):
            if index % _STRIDE == 0 and picture is not None and len(pictures) < _PICTURES:
                pictures.append(_indexed(picture))
    if picture is None:
        raise UsageError(f"--gif: {config['env']} draws no pictures")
    durations = [picture_ms] * len(pictures) + [_LAST_MS]
    pictures.append(_indexed(picture))
    try:
        pictures[0].save(path, format="GIF", save_all=True, append_images=pictures[1:], duration=durations, loop=0)
    except OSError as error:
        raise UsageError(f"--gif {path}: {error.strerror}; choose a file you can write") from error


def _indexed(picture: NDArray[np.uint8]) -> Any:
    """A picture in 64 colours of its own."""
    from PIL import Image

    return Image.fromarray(np.asarray(picture)).quantize(64)


if __name__ == "__main__":
    sys.exit(main())
