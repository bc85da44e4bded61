"""`tuner play RUN`: play the best policy greedily on fresh seeds: its mean reward, an interval, a picture."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tuner import command, environment
from tuner.errors import StateError, UsageError
from tuner.files import manifest_problem

if TYPE_CHECKING:
    from ray.rllib.core.rl_module import RLModule

# Searches use small seeds; these are far from them.
FRESH_SEED = 1_000_000
_FRAMES = 400
_FRAME_MS = 40


def main(argv: Sequence[str] | None = None) -> int:
    """Play and return the exit code."""
    return command.run(_main, parser(), argv)


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = command.parser("play", __doc__)
    parser.add_argument("run", type=Path, metavar="RUN", help="a run folder, or the folder of one trial or training")
    parser.add_argument("--episodes", type=int, default=20, metavar="N", help="episodes to play (20)")
    parser.add_argument("--seed", type=int, default=FRESH_SEED, metavar="N", help=f"first seed ({FRESH_SEED})")
    parser.add_argument("--gif", type=Path, metavar="FILE", help="draw the first episode into FILE")
    return parser


def _main(args: argparse.Namespace) -> int:
    if args.episodes < 1:
        raise UsageError(f"--episodes {args.episodes}: must be at least 1")
    if args.seed < 0:
        raise UsageError(f"--seed {args.seed}: must be at least 0")
    if args.gif and not args.gif.absolute().parent.is_dir():
        raise UsageError(f"--gif {args.gif}: no such folder {args.gif.parent}; make it first")
    folder, config = policy_folder(args.run)
    module = load_policy(folder)
    rewards = [
        sum(reward for reward, _ in episode(module, config, args.seed + index)) for index in range(args.episodes)
    ]
    low, high = interval(rewards)
    print(
        f"mean reward {np.mean(rewards):.1f} over {len(rewards)} episodes, 95 % interval {low:.1f} to {high:.1f}, "
        f"lowest {min(rewards):.1f}; seeds {args.seed} to {args.seed + args.episodes - 1}"
    )
    if args.gif:
        draw(module, config, args.seed, args.gif)
        print(f"picture     {args.gif}")
    return 0


def policy_folder(run: Path) -> tuple[Path, dict[str, Any]]:
    """The verified checkpoint of a run folder's best trial, or of one trial, and the trial's configuration.

    Raises:
        UsageError: there is none.
        StateError: it does not verify; nothing of it was read.
    """
    import yaml

    if (run / "best" / "config.yaml").is_file():
        folder, config = run / "best" / "checkpoint", yaml.safe_load((run / "best" / "config.yaml").read_text())
    elif (run / "config.json").is_file():
        folder, config = run / "checkpoint", json.loads((run / "config.json").read_bytes())
    else:
        raise UsageError(f"{run}: has neither best/ nor config.json; name a run folder whose sweep completed a trial")
    if not folder.is_dir():
        raise UsageError(f"{folder}: no checkpoint there; `python -m tuner.report {run}` writes best/ again")
    if problem := manifest_problem(folder.resolve()):
        raise StateError(f"{folder}: does not verify ({problem}); `python -m tuner.report {run}` writes best/ again")
    return folder.resolve(), config


def load_policy(checkpoint: Path) -> RLModule:
    """The policy of an RLlib checkpoint, without the algorithm around it."""
    import warnings

    import torch

    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from ray.rllib.core.rl_module import RLModule

        # RLlib warns of its own checkpoints' contents.
        logging.getLogger("ray").setLevel(logging.ERROR)
        # RLlib takes a relative path for a URI.
        folder = checkpoint.absolute() / "learner_group" / "learner" / "rl_module" / "default_policy"
        return RLModule.from_checkpoint(folder)


def episode(
    module: RLModule, config: dict[str, Any], seed: int, **options: Any
) -> Iterator[tuple[float, NDArray[np.uint8] | None]]:
    """Play one episode greedily: each step's reward, and its picture where the environment is asked for one."""
    env = environment.make(config["env"], config["env_config"], **options)
    observation, _ = env.reset(seed=seed)
    is_over = False
    while not is_over:
        picture: Any = env.render() if options.get("render_mode") else None
        observation, reward, terminated, truncated, _ = env.step(greedy_action(module, env.action_space, observation))
        is_over = terminated or truncated
        yield float(reward), picture
    env.close()


def greedy_action(module: RLModule, space: Any, observation: NDArray[Any]) -> Any:
    """The policy's most likely action, as the environment takes it."""
    import torch
    from gymnasium import spaces
    from ray.rllib.utils.spaces.space_utils import clip_action, unsquash_action

    with torch.no_grad():
        batch = {"obs": torch.from_numpy(np.asarray(observation, dtype=np.float32)[None])}
        inputs = module.forward_inference(batch)["action_dist_inputs"]
    distribution = module.get_inference_action_dist_cls().from_logits(inputs)
    action = distribution.to_deterministic().sample()[0].numpy()
    if isinstance(space, spaces.Box):  # RLlib's policies act in [-1, 1]
        bounded = bool(np.all(space.bounded_above) and np.all(space.bounded_below))
        return unsquash_action(action, space) if bounded else clip_action(action, space)
    return action


def interval(rewards: Sequence[float]) -> tuple[float, float]:
    """A 95 % interval of the mean, by bootstrap (BCa); the mean itself where all rewards are alike."""
    from scipy.stats import bootstrap

    if len(set(rewards)) < 2:
        return rewards[0], rewards[0]
    found = bootstrap((rewards,), np.mean, rng=np.random.default_rng(0)).confidence_interval
    return float(found.low), float(found.high)


def draw(module: RLModule, config: dict[str, Any], seed: int, path: Path) -> None:
    """Draw one episode as an animated GIF, every second step, the first `_FRAMES` pictures.

    Raises:
        UsageError: the environment draws nothing, or the file cannot be written.
    """
    from PIL import Image

    # Pictures need neither a screen nor a sound card.
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    os.environ.setdefault("SDL_AUDIODRIVER", "dummy")
    pictures: list[Image.Image] = []
    for index, (_, picture) in enumerate(episode(module, config, seed, render_mode="rgb_array")):
        if index % 2 == 0 and picture is not None and len(pictures) < _FRAMES:
            pictures.append(Image.fromarray(np.asarray(picture)).quantize(64))
    if not pictures:
        raise UsageError(f"--gif: {config['env']} draws no pictures")
    try:
        pictures[0].save(path, format="GIF", save_all=True, append_images=pictures[1:], duration=_FRAME_MS, loop=0)
    except OSError as error:
        raise UsageError(f"--gif {path}: {error.strerror}; choose a file you can write") from error


if __name__ == "__main__":
    sys.exit(main())
