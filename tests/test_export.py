"""The ways on from a run, taken where this project is not installed: plain RLlib, and torch alone."""

from __future__ import annotations

import ast
import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ray.rllib.algorithms.ppo.torch.default_ppo_torch_rl_module import DefaultPPOTorchRLModule
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig

from tests.test_ppo import SMALL
from tests.test_sweep import rows_of
from tests.test_training import CONFIG, finish
from tests.toy import ACTIONS
from tuner.episodes import Goal
from tuner.errors import ExportFailed
from tuner.export import rllib_script, write_policy
from tuner.layout import TrialDir
from tuner.policy import greedy, load_policy
from tuner.ppo.config import ppo_config
from tuner.training import RunConfig

WALK = '''
import gymnasium
import numpy as np


class Walk(gymnasium.Env):
    """A walk in the plane that pays any real number; ends by chance or is truncated."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = gymnasium.spaces.Box(-2, 2, (2,), np.float32)

    def __init__(self, wind={"x": 0.0}):
        self.wind = wind

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at = self.np_random.normal(size=2)
        return self.at.astype(np.float32), {}

    def step(self, action):
        self.at = self.at + action + self.np_random.normal(size=2) + self.wind["x"]
        reward = -float(np.abs(self.at).sum())
        return self.at.astype(np.float32), reward, bool(self.np_random.random() < 0.05), False, {}


gymnasium.register("Walk-v0", entry_point=Walk, max_episode_steps=30)
'''


def stored(config: RunConfig) -> dict[str, Any]:
    """The configuration as a run folder gives it back."""
    values: dict[str, Any] = json.loads(json.dumps(config.to_json()))
    return values


def executed(script: str) -> dict[str, Any]:
    """The names that a script defines, without its training."""
    names: dict[str, Any] = {"__name__": "script"}
    exec(compile(script, "rllib.py", "exec"), names)  # noqa: S102 it is what this module wrote
    return names


class TestTheScript:
    def test_an_environment_of_ours_names_the_module_that_registers_it(self) -> None:
        run = replace(CONFIG, env="tuner/SoccerTwos-v0", env_config={"player": "field"})
        config = executed(rllib_script(stored(run)))["config"]
        assert config.env == "tuner.envs:tuner/SoccerTwos-v0" and config.env_config == {"player": "field"}

    def test_it_is_not_written_where_several_agents_play(self) -> None:
        run = replace(CONFIG, env="tuner/SoccerTwos-v0", env_config={"variation": "multiagent_team"})
        with pytest.raises(ExportFailed, match="several"):
            rllib_script(stored(run))

    @pytest.mark.parametrize(
        "changed",
        [
            {},
            {
                "lr_anneal_steps": 60_000,
                "lr": 0.0012345678901234567,
                "grad_clip": None,
                "rollout_fragment_length": "auto",
            },
            {"vf_clip_param": 1e5, "use_kl_loss": False, "shuffle_batch_per_epoch": False, "use_gae": False},
            {"fcnet_hiddens": [], "fcnet_activation": "linear", "vf_share_layers": False, "num_env_runners": 2},
        ],
    )
    def test_it_sets_every_parameter_as_a_run_does(self, changed: dict[str, Any]) -> None:
        run = replace(CONFIG, params=SMALL | changed, env_config={"render_mode": None})
        theirs = executed(rllib_script(stored(run)))["config"].to_dict()
        ours = ppo_config(run.env, run.params, seed=run.seed, env_config=run.env_config).to_dict()
        told = {name for name in ours if ours[name] != theirs[name]}
        assert told == {"callbacks_on_episode_end", "log_level", "log_sys_usage"}

    def test_it_has_the_runs_goal(self) -> None:
        names = executed(rllib_script(stored(replace(CONFIG, goal=Goal(-1.5, 7, 99, max_steps=123_456)))))
        assert [names[name] for name in ("THRESHOLD", "WINDOW", "MAX_EPISODES", "MAX_STEPS")] == [-1.5, 7, 99, 123_456]
        assert executed(rllib_script(stored(replace(CONFIG, goal=Goal(None, 7, 99)))))["THRESHOLD"] == float("inf")

    @settings(deadline=None)
    @given(
        st.dictionaries(
            st.text(),
            st.recursive(
                st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
                lambda values: st.lists(values) | st.dictionaries(st.text(), values),
                max_leaves=20,
            ),
            min_size=1,
        ),
        st.text(min_size=1),
    )
    def test_any_plain_value_comes_out_as_it_went_in(self, env_config: dict[str, Any], env: str) -> None:
        tree = ast.parse(rllib_script(replace(CONFIG, env=env, env_config=env_config).to_json()))
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)]
        call = next(node for node in calls if ast.unparse(node.func).endswith("environment"))
        environment = {keyword.arg: eval(ast.unparse(keyword.value)) for keyword in call.keywords}  # noqa: S307 as above
        assert environment == {"env": env, "env_config": env_config}
        assert repr(environment["env_config"]) == repr(env_config), "types and signs of zero, too"

    def test_it_is_written_as_by_hand(self, tmp_path: Path) -> None:
        deep = {"field": {"size": [105.0, 68.0], "lines": [[0.25, 1e-7, 1e22, 12345]] * 9}, "name": 'the "old" one'}
        for number, run in enumerate([
            CONFIG,
            replace(CONFIG, engine="fused", goal=Goal(None, 50, 70, 20_000), env_config=deep),
            replace(CONFIG, params=SMALL | {"fcnet_hiddens": [128] * 24, "lr": 1.2345678901234567e-05}),
        ]):  # fmt: skip
            file = tmp_path / f"{number}.py"
            file.write_text(rllib_script(stored(run)))
            assert max(map(len, file.read_text().splitlines())) <= 120
        words = [
            Path(sys.executable).with_name("ruff"),
            "format",
            "--diff",
            "--line-length",
            "120",
            "--isolated",
            tmp_path,
        ]
        formatted = subprocess.run(words, capture_output=True, text=True)
        assert formatted.returncode == 0, formatted.stdout
        words = [words[0], "check", "--isolated", "--select", "E,F,I,UP,B", "--line-length", "120", tmp_path]
        checked = subprocess.run(words, capture_output=True, text=True)
        assert checked.returncode == 0, checked.stdout
        assert len((tmp_path / "0.py").read_text().splitlines()) < 75

    def test_it_promises_the_runs_own_episodes_to_the_rllib_engine_alone(self) -> None:
        assert "give the same episodes" in rllib_script(stored(CONFIG))
        assert "another seed" in rllib_script(stored(replace(CONFIG, engine="fused")))


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    """Variables for a Python in which this project is not installed, and `walk` is."""
    folder = tmp_path_factory.mktemp("elsewhere")
    (folder / "walk.py").write_text(WALK)
    (folder / "sitecustomize.py").write_text(absent("tuner", "tests", "search_spaces"))
    env = {**os.environ, "PYTHONPATH": str(folder), "HOME": str(folder)}
    done = subprocess.run([sys.executable, "-c", "import tuner"], cwd=folder, env=env, capture_output=True, text=True)
    assert "ModuleNotFoundError: tuner is not installed here" in done.stderr
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield env


def absent(*names: str) -> str:
    """A sitecustomize.py for a Python in which some packages cannot be imported."""
    return f"""
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {names}:
            raise ModuleNotFoundError(name + " is not installed here")

sys.meta_path.insert(0, Absent())
"""


@pytest.mark.ray
class TestTheScriptTrains:
    @pytest.mark.parametrize(
        "config",
        [
            pytest.param(replace(CONFIG, goal=Goal(24, 20, max_episodes=300)), id="to the threshold"),
            pytest.param(
                RunConfig(
                    "walk:Walk-v0", "rllib", 5, Goal(None, 20, max_episodes=1000, max_steps=1500),
                    SMALL | {
                        "lr_anneal_steps": 4000, "vf_share_layers": False, "fcnet_hiddens": [32, 16],
                        "train_batch_size": 32, "rollout_fragment_length": 8,  # no episode ends in some iterations
                    },
                    {"wind": {"x": 0.25}},
                ),
                id="an environment of one's own, to its steps",
            ),
            pytest.param(
                replace(CONFIG, params=SMALL | {"num_env_runners": 1, "num_envs_per_env_runner": 2}),
                id="on a remote runner, to its episodes",
            ),
        ],
    )  # fmt: skip
    def test_episode_for_episode_what_the_rllib_engine_trains(
        self, config: RunConfig, elsewhere: Mapping[str, str], local_ray: None, tmp_path: Path
    ) -> None:
        finish(config, tmp_path / "run")
        (tmp_path / "rllib.py").write_text(
            rllib_script(json.loads((tmp_path / "run/config.json").read_text()))
            + '    import json\n\n    open("episodes.json", "w").write(json.dumps(episodes))\n'
        )
        words = [sys.executable, "rllib.py"]
        done = subprocess.run(words, cwd=tmp_path, env=elsewhere, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr[-3000:]
        rows = rows_of(tmp_path / "run")
        episodes = json.loads((tmp_path / "episodes.json").read_text())
        assert [episode[:2] for episode in episodes] == [[row["reward"], row["length"]] for row in rows]
        assert len(rows) > 30
        last = f"mean reward {rows[-1]['mean_reward']:.1f} after {len(rows)} episodes"
        assert done.stdout.splitlines()[-1].startswith(last)
        assert " episodes, mean reward " in done.stdout.splitlines()[0]


class Branching(DefaultPPOTorchRLModule):
    """A policy that looks at its observations before it computes."""

    def _forward(self, batch: dict[str, Any], **options: Any) -> dict[str, Any]:
        if batch["obs"].sum() > 100:
            return {"action_dist_inputs": self.pi(torch.zeros(len(batch["obs"]), 16))}
        out: dict[str, Any] = super()._forward(batch, **options)
        return out


class Noisy(DefaultPPOTorchRLModule):
    """A policy that says something else each time."""

    def _forward(self, batch: dict[str, Any], **options: Any) -> dict[str, Any]:
        out: dict[str, Any] = super()._forward(batch, **options)
        return out | {"action_dist_inputs": out["action_dist_inputs"] + torch.rand(3)}


def checkpoint_of(
    folder: Path,
    actions: gymnasium.Space[Any],
    kind: type[DefaultPPOTorchRLModule] = DefaultPPOTorchRLModule,
    **network: Any,
) -> DefaultPPOTorchRLModule:
    """A policy with weights by chance, saved in `folder` where an RLlib checkpoint has it."""
    model_config = dataclasses.asdict(DefaultModelConfig(**{"fcnet_hiddens": [24, 16], **network}))
    observations = gymnasium.spaces.Box(-np.inf, np.inf, (5,), np.float32)
    module = kind(observation_space=observations, action_space=actions, model_config=model_config)
    module.save_to_path(folder / "learner_group/learner/rl_module/default_policy")
    return module


def likeliest(outputs: Any, space: gymnasium.Space[Any]) -> Any:
    """The action as `write_policy` says it follows."""
    if isinstance(space, gymnasium.spaces.Discrete):
        return outputs.argmax().item()
    if isinstance(space, gymnasium.spaces.MultiDiscrete):
        return [group.argmax().item() for group in outputs.split(space.nvec.tolist())]
    assert isinstance(space, gymnasium.spaces.Box)
    mean = outputs[: len(outputs) // 2].numpy()
    if not space.is_bounded():
        return mean
    return np.clip(space.low + (mean + 1) / 2 * (space.high - space.low), space.low, space.high)


SPACES = ACTIONS | {"unbounded": gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32)}


@pytest.mark.filterwarnings("ignore:.*torch.jit.load.*:DeprecationWarning")
class TestThePolicy:
    @pytest.mark.parametrize("shared", [True, False], ids=["shared", "separate"])
    @pytest.mark.parametrize("activation", ["relu", "tanh"])
    @pytest.mark.parametrize("actions", SPACES)
    def test_it_says_what_rllibs_policy_says_and_the_action_follows(
        self, actions: str, activation: str, shared: bool, tmp_path: Path
    ) -> None:
        space = SPACES[actions]
        module = checkpoint_of(tmp_path / "checkpoint", space, fcnet_activation=activation, vf_share_layers=shared)
        write_policy(tmp_path / "checkpoint", tmp_path / "policy.pt")
        policy = torch.jit.load(tmp_path / "policy.pt")
        for size in (1, 3, 200):
            batch = 3 * torch.randn(size, 5)
            outputs = policy(batch)
            assert not outputs.requires_grad
            expected = module.forward_inference({"obs": batch})["action_dist_inputs"]
            torch.testing.assert_close(outputs, expected, rtol=0, atol=1e-6)
            for observation, output in zip(batch[:3], outputs, strict=False):
                action = greedy(module, space)(observation.numpy()[None])[0]
                np.testing.assert_allclose(likeliest(output, space), action, rtol=0, atol=1e-6)

    def test_it_is_written_from_a_relative_path_too(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        checkpoint_of(tmp_path / "checkpoint", ACTIONS["box"])
        monkeypatch.chdir(tmp_path)
        write_policy(Path("checkpoint"), Path("policy.pt"))
        assert Path("policy.pt").is_file()

    def test_it_loads_with_torch_alone_and_holds_no_value_network(self, tmp_path: Path) -> None:
        module = checkpoint_of(tmp_path / "checkpoint", ACTIONS["box"], vf_share_layers=False)
        write_policy(tmp_path / "checkpoint", tmp_path / "policy.pt")
        (tmp_path / "sitecustomize.py").write_text(absent("tuner", "ray", "gymnasium"))
        code = "import torch\np = torch.jit.load('policy.pt')\n"
        code += "print(p(torch.ones(1, 5)).tolist(), sum(w.numel() for w in p.parameters()))"
        env = {**os.environ, "PYTHONPATH": str(tmp_path)}
        words = [sys.executable, "-c", code]
        done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0 and not done.stderr, done.stderr
        outputs = module.forward_inference({"obs": torch.ones(1, 5)})["action_dist_inputs"]
        weights = (5 + 1) * 24 + (24 + 1) * 16 + (16 + 1) * 4
        assert done.stdout.strip() == f"{outputs.tolist()} {weights}"

    @pytest.mark.ray
    @pytest.mark.parametrize("engine", ["rllib", "fused"])
    def test_a_runs_checkpoint_gives_its_policy(self, engine: str, local_ray: None, tmp_path: Path) -> None:
        finish(replace(CONFIG, engine=engine), tmp_path)
        checkpoint = TrialDir(tmp_path).checkpoint.resolve()
        write_policy(checkpoint, tmp_path / "policy.pt")
        batch = torch.randn(9, 4)
        expected = load_policy(checkpoint).forward_inference({"obs": batch})["action_dist_inputs"]
        torch.testing.assert_close(torch.jit.load(tmp_path / "policy.pt")(batch), expected, rtol=0, atol=1e-6)

    def test_images_go_in_as_they_are(self, tmp_path: Path) -> None:
        observations = gymnasium.spaces.Box(-1, 1, (84, 84, 3), np.float32)
        model_config = dataclasses.asdict(DefaultModelConfig(conv_filters=[[8, 8, 4], [8, 4, 4]]))
        module = DefaultPPOTorchRLModule(
            observation_space=observations, action_space=ACTIONS["discrete"], model_config=model_config
        )
        module.save_to_path(tmp_path / "checkpoint/learner_group/learner/rl_module/default_policy")
        write_policy(tmp_path / "checkpoint", tmp_path / "policy.pt")
        assert torch.jit.load(tmp_path / "policy.pt")(torch.zeros(3, 84, 84, 3)).shape == (3, 3)

    @pytest.mark.parametrize(
        ("kind", "network", "reason"),
        [
            (Branching, {}, "Converting a tensor to a Python boolean"),
            (DefaultPPOTorchRLModule, {"use_lstm": True}, "keeps a state"),
        ],
        ids=["branching", "recurrent"],
    )
    def test_one_that_cannot_be_traced_is_refused_with_the_reason(
        self, kind: type[DefaultPPOTorchRLModule], network: dict[str, Any], reason: str, tmp_path: Path
    ) -> None:
        checkpoint_of(tmp_path / "checkpoint", ACTIONS["discrete"], kind, **network)
        with pytest.raises(ExportFailed, match=f"checkpoint: its policy cannot be written as TorchScript: .*{reason}"):
            write_policy(tmp_path / "checkpoint", tmp_path / "policy.pt")
        assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]

    @pytest.mark.parametrize("weight", [float("nan"), float("inf")])
    def test_one_that_does_not_say_what_rllibs_says_is_not_kept(self, weight: float, tmp_path: Path) -> None:
        module = checkpoint_of(tmp_path / "checkpoint", ACTIONS["discrete"])
        with torch.no_grad():
            next(module.pi.parameters()).fill_(weight)
        module.save_to_path(tmp_path / "checkpoint/learner_group/learner/rl_module/default_policy")
        with pytest.raises(ExportFailed, match="differs from RLlib's by nan"):
            write_policy(tmp_path / "checkpoint", tmp_path / "policy.pt")
        assert not (tmp_path / "policy.pt").exists()

    def test_one_that_says_something_else_each_time_is_not_kept(self, tmp_path: Path) -> None:
        checkpoint_of(tmp_path / "checkpoint", ACTIONS["discrete"], Noisy)
        with pytest.raises(ExportFailed, match=r"differs from RLlib's by 0\."):
            write_policy(tmp_path / "checkpoint", tmp_path / "policy.pt")
        assert not (tmp_path / "policy.pt").exists()
