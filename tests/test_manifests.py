"""What is in `docker/`, checked by the tools and schemas that packages bring; no engine, cluster or cloud is needed.

The SLURM scripts are run for real, with stand-ins for `srun`, `scontrol` and `ray`: that shows how signals and exit
codes go through the scripts, and nothing about SLURM.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import ray
import yaml

from tests.conftest import ROOT
from tuner.errors import EXIT_DONE, EXIT_INTERRUPTED, EXIT_STATE, EXIT_TRIALS_FAILED, EXIT_USAGE

DOCKER = ROOT / "docker"
SCRIPTS = sorted((DOCKER / "slurm").glob("*.sbatch"))
OLDEST_KUBERNETES = "1.31"  # a Job's podFailurePolicy is stable from here on
METRICS = {
    "ray_tuner_trials", "ray_tuner_trials_total_budget", "ray_tuner_best_score", "ray_tuner_best_episodes_to_threshold",
    "ray_tuner_episodes_per_second", "ray_tuner_left_seconds_low", "ray_tuner_left_seconds_high",
}  # fmt: skip


def run_tool(name: str, *words: object) -> None:
    tool = Path(sys.executable).with_name(name)
    done = subprocess.run([tool, *map(str, words)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DOCKER / name).read_text()))


def manifests() -> Iterator[dict[str, Any]]:
    for file in sorted((DOCKER / "kuberay").glob("*.yaml")):
        yield from documents(f"kuberay/{file.name}")


def mappings(value: Any) -> Iterator[dict[str, Any]]:
    """Every mapping in `value`, itself included."""
    if isinstance(value, dict):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from mappings(inner)


def pods() -> list[dict[str, Any]]:
    """Every pod's template in the Kubernetes manifests."""
    found = [m for m in mappings(list(manifests())) if "containers" in m.get("spec", {})]
    assert len(found) == 6  # head, workers and submitter of the job, head and workers of the cluster, the plain job
    return found


def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = documents("compose.yaml")[0]["services"]
    return found


class TestImage:
    def test_hadolint_finds_nothing(self) -> None:
        run_tool("hadolint", DOCKER / "Dockerfile")

    def test_is_made_of_what_the_build_is_given_and_of_nothing_else(self) -> None:
        copied = re.findall(r"^COPY --chown=\S+ (.+) \S+$", (DOCKER / "Dockerfile").read_text(), re.MULTILINE)
        ignored = (ROOT / ".dockerignore").read_text().splitlines()
        given = {line[1:] for line in ignored if line.startswith("!")}
        assert "*" in ignored
        assert {name for names in copied for name in names.split()} == given
        assert all((ROOT / name).exists() for name in given)

    def test_and_manifests_have_the_pinned_ray(self) -> None:
        pin = re.search(r"^ray==(\S+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
        assert pin
        assert f"BASE=rayproject/ray:{pin[1]}-" in (DOCKER / "Dockerfile").read_text()
        named = [m["rayVersion"] for m in mappings(list(manifests())) if "rayVersion" in m]
        assert named == [pin[1], pin[1]]

    def test_ends_as_a_user_who_is_not_root(self) -> None:
        users = re.findall(r"^USER (\d+)", (DOCKER / "Dockerfile").read_text(), re.MULTILINE)
        assert int(users[-1]) > 0


class TestCompose:
    def test_fits_the_specification(self) -> None:
        run_tool("check-jsonschema", "--builtin-schema", "vendor.compose-spec", DOCKER / "compose.yaml")

    def test_every_container_is_locked(self) -> None:
        for name, service in services().items():
            assert service["read_only"] and service["cap_drop"] == ["ALL"], name
            assert service["security_opt"] == ["no-new-privileges:true"], name
            assert not {"user", "privileged", "network_mode", "pid"} & service.keys(), name

    def test_ports_are_published_on_loopback_alone(self) -> None:
        ports = [port for service in services().values() for port in service.get("ports", [])]
        assert len(ports) == 4 and all(re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port) for port in ports)

    def test_the_boards_cannot_write_into_run_folders(self) -> None:
        assert services()["tensorboard"]["volumes"] == services()["optuna-dashboard"]["volumes"] == ["runs:/runs:ro"]

    def test_whatever_it_mounts_is_there(self) -> None:
        files = [config["file"] for config in documents("compose.yaml")[0]["configs"].values()]
        assert files and all((DOCKER / file).is_file() for file in files)


class TestKubernetes:
    @pytest.mark.parametrize("version", [OLDEST_KUBERNETES, kubernetes_validate.latest_version()])
    def test_manifests_fit_its_schemas(self, version: str) -> None:
        ours = [manifest for manifest in manifests() if not manifest["apiVersion"].startswith("ray.io/")]
        assert sorted(manifest["kind"] for manifest in ours) == ["Job", "NetworkPolicy", "PersistentVolumeClaim"]
        for manifest in ours:
            kubernetes_validate.validate(manifest, version, strict=True)

    def test_the_pods_of_a_ray_cluster_and_a_ray_job_fit_its_schemas(self) -> None:
        # No package has the schemas of RayCluster and RayJob themselves.
        for pod in pods():
            template = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "pod"}, "template": pod}
            kubernetes_validate.validate(template, OLDEST_KUBERNETES, strict=True)

    def test_no_pod_runs_as_root_or_writes_to_its_root(self) -> None:
        for pod in pods():
            assert pod["spec"]["securityContext"]["runAsNonRoot"] and pod["spec"]["securityContext"]["runAsUser"] > 0
            assert pod["spec"]["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
            for container in [*pod["spec"]["containers"], *pod["spec"].get("initContainers", [])]:
                assert container["securityContext"] == {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                }
                assert {"requests", "limits"} == container["resources"].keys()
        for mapping in mappings(list(manifests())):
            assert not {"hostPort", "hostNetwork", "nodePort", "hostPath", "privileged"} & mapping.keys()

    def test_every_pod_is_in_the_network_policy_and_every_cluster_asks_for_a_token(self) -> None:
        policy = next(manifest for manifest in manifests() if manifest["kind"] == "NetworkPolicy")
        label = policy["spec"]["podSelector"]["matchLabels"]
        assert all(pod["metadata"]["labels"] == label for pod in pods())
        clusters = [mapping for mapping in mappings(list(manifests())) if "headGroupSpec" in mapping]
        assert [cluster["authOptions"] for cluster in clusters] == [{"mode": "token"}] * 2

    def test_both_clusters_are_the_same(self) -> None:
        (cluster,), (job,) = documents("kuberay/raycluster.yaml"), documents("kuberay/rayjob.yaml")
        assert cluster["spec"] == job["spec"]["rayClusterSpec"]

    def test_the_job_acts_on_the_exit_codes(self) -> None:
        (job,) = documents("kuberay/submit-job.yaml")
        rules = job["spec"]["podFailurePolicy"]["rules"]
        actions = {c: rule["action"] for rule in rules for c in rule.get("onExitCodes", {}).get("values", [])}
        final = dict.fromkeys([EXIT_TRIALS_FAILED, EXIT_USAGE, EXIT_STATE], "FailJob")
        assert actions == final | {EXIT_INTERRUPTED: "Count"}
        assert rules[0] == {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
        names = {rule["onExitCodes"]["containerName"] for rule in rules if "onExitCodes" in rule}
        assert names == {container["name"] for container in job["spec"]["template"]["spec"]["containers"]}
        assert job["spec"]["template"]["spec"]["restartPolicy"] == "Never", "else a policy is refused"


def test_the_launcher_file_fits_rays_own_schema_and_keeps_the_dashboard_on_loopback() -> None:
    schema = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
    (launcher,) = documents("launcher/aws.yaml")
    jsonschema.validate(launcher, schema)
    assert any("--dashboard-host=127.0.0.1" in command for command in launcher["head_start_ray_commands"])
    assert launcher["available_node_types"]["worker"]["node_config"]["InstanceMarketOptions"]["MarketType"] == "spot"


def test_the_dashboard_shows_the_metrics_that_there_are() -> None:
    dashboard = json.loads((DOCKER / "grafana" / "tuner.json").read_text())
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    assert set(re.findall(r"ray_\w+", " ".join(expressions))) == METRICS
    queries = [variable["query"] for variable in dashboard["templating"]["list"]]
    assert set(re.findall(r"ray_\w+", " ".join(queries))) <= METRICS
    assert all("$sweep" in expression for expression in expressions)
    assert set(re.findall(r"`(ray_tuner_\w+)", (ROOT / "docs/cluster.md").read_text())) == METRICS


def test_a_secret_is_named_and_never_written() -> None:
    # `make check` scans the files themselves.
    settings = [{"name": k, "value": v} for s in services().values() for k, v in s.get("environment", {}).items()]
    settings += [setting for mapping in mappings(list(manifests())) for setting in mapping.get("env", [])]
    secrets = [setting for setting in settings if re.search("TOKEN|PASSWORD|SECRET|KEY", setting["name"])]
    assert len(secrets) == 4  # head, worker and submit of Compose, the job of Kubernetes
    for secret in secrets:
        is_file = secret["name"].endswith("_PATH") and secret.get("value", "").startswith("/run/")
        assert is_file or secret.get("valueFrom", {}).keys() == {"secretKeyRef"}, secret
    assert "docker/ray_token" in (ROOT / ".gitignore").read_text().splitlines()


def test_the_guide_names_files_that_there_are() -> None:
    guide = (ROOT / "docs/cluster.md").read_text()
    named = set(re.findall(r"docker/[\w./-]+\w", guide)) - {"docker/ray_token"}
    assert named and all((ROOT / name).exists() for name in named)
    in_slurm = set(re.findall(r"`([\w-]+\.sbatch)`", guide))
    assert in_slurm == {script.name for script in SCRIPTS}
    linked = {target for target in re.findall(r"\]\((?!https?://|#)([^)#]+)\)", guide)}
    assert all((ROOT / "docs" / target).exists() for target in linked)


# Stand-ins, each a Python program. `srun` starts its command in a process group of its own and hands signals on to all
# of it, as the real one does to every process of a step; it ends as its command did.
STAND_INS = {
    "srun": """
import os, signal, subprocess, sys
words = sys.argv[1:]
while words[0].startswith("-"):
    words.pop(0)
task = subprocess.Popen(words, start_new_session=True)
for number in (signal.SIGUSR1, signal.SIGTERM):
    signal.signal(number, lambda number, frame: os.killpg(task.pid, number))
code = task.wait()
sys.exit(code if code >= 0 else 128 - code)
""",
    "scontrol": """
import os, pathlib, sys
with pathlib.Path(os.environ["LOG"]).open("a") as log:
    print("scontrol", *sys.argv[1:], file=log)
""",
    "ray": """
import os, subprocess, sys, time
does_not_start = "RAY_DOES_NOT_START" in os.environ
open(os.environ["LOG"] + ".ray", "w").close()
if sys.argv[1] == "symmetric-run":
    if does_not_start:
        sys.exit(0)  # as the real one
    time.sleep(float(os.environ["RAY_STARTS_IN_S"]))
    sys.exit(subprocess.run(sys.argv[sys.argv.index("--") + 1 :]).returncode)
if sys.argv[1] == "health-check":
    time.sleep(float(os.environ["RAY_STARTS_IN_S"]))
    sys.exit(does_not_start)
if not does_not_start:
    time.sleep(60)
sys.exit(1)
""",
    # `python` of the environment: the driver, or Python itself.
    "python": """
import os, pathlib, signal, stat, sys, time
if sys.argv[1] != "-m":
    os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
log = pathlib.Path(os.environ["LOG"])

def say(*words):
    with log.open("a") as file:
        print(*words, file=file)

def stop(number, frame):
    time.sleep(0.5)  # trials save
    say("saved")
    sys.exit(int(os.environ["STOPS_WITH"]))

signal.signal(signal.SIGUSR1, stop)
token = pathlib.Path(os.environ["RAY_AUTH_TOKEN_PATH"])
say("token", os.environ["RAY_AUTH_MODE"], oct(token.stat().st_mode & 0o777), len(token.read_text().strip()))
say("driver", *sys.argv[2:])
if os.environ["ENDS_WITH"] == "SIGKILL":
    os.kill(os.getpid(), signal.SIGKILL)
if os.environ["ENDS_WITH"] != "never":
    sys.exit(int(os.environ["ENDS_WITH"]))
time.sleep(60)
""",
}


class BatchJob:
    """One SLURM script as a process of its own, under stand-ins, with a home and a shared disk in `folder`."""

    def __init__(self, script: Path, folder: Path, ends_with: str, environment: Mapping[str, str]) -> None:
        self.home, self.log = folder, folder / "log"
        self.log.touch()
        programs = folder / "venv" / "bin"
        programs.mkdir(parents=True)
        for name, program in STAND_INS.items():
            (programs / name).write_text(f"#!{sys.executable}\n{program}")
            (programs / name).chmod(0o755)
        (programs / "activate").write_text(f"PATH={programs}:$PATH\n")
        slurm = {
            "SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "2", "SLURM_CPUS_PER_TASK": "2", "SLURMD_NODENAME": "first",
            "SLURM_SUBMIT_DIR": str(folder), "VENV": str(programs.parent), "HOME": str(folder), "LOG": str(self.log),
            "RAY_STARTS_IN_S": "0", "STOPS_WITH": str(EXIT_INTERRUPTED),
        }  # fmt: skip
        self.process = subprocess.Popen(
            ["bash", script, "cartpole", "--trials", "3"],
            env={**os.environ, **slurm, "ENDS_WITH": ends_with, **environment}, start_new_session=True,
        )  # fmt: skip

    def wait_for(self, word: str) -> None:
        """Wait until a stand-in has said so."""
        self._wait(lambda: word in self.log.read_text())

    def wait_for_ray(self) -> None:
        """Wait until Ray is being started."""
        self._wait(self.log.with_name("log.ray").exists)

    def _wait(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 15
        while not condition():
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.05)

    def end(self) -> tuple[int, list[str]]:
        """The script's exit code, and what the stand-ins said."""
        code = self.process.wait(timeout=20)
        assert not [file.name for file in (self.home / ".ray").iterdir()], "the token is gone with the job"
        return code, self.log.read_text().splitlines()


@pytest.fixture
def batch_job(tmp_path: Path) -> Iterator[Any]:
    jobs: list[BatchJob] = []

    def start(script: Path, ends_with: object, **environment: str) -> BatchJob:
        jobs.append(BatchJob(script, tmp_path, str(ends_with), environment))
        return jobs[-1]

    yield start
    for job in jobs:
        if job.process.poll() is None:
            os.killpg(job.process.pid, signal.SIGKILL)
            job.process.wait()


def test_shellcheck_finds_nothing() -> None:
    run_tool("shellcheck", "--shell=bash", *SCRIPTS)


@pytest.mark.skipif(shutil.which("hostname") is None, reason="the scripts ask `hostname -I`")
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
class TestSlurm:
    def test_asks_for_a_warning_and_to_be_put_back(self, script: Path) -> None:
        options = re.findall(r"^#SBATCH (\S+)", script.read_text(), re.MULTILINE)
        assert {"--requeue", "--signal=B:USR1@120", "--open-mode=append", "--exclusive"} <= set(options)

    def test_a_sweep_that_ended_ends_the_job(self, script: Path, batch_job: Any, tmp_path: Path) -> None:
        code, said = batch_job(script, EXIT_DONE).end()
        assert code == EXIT_DONE
        address = said[1].split()[-1]
        assert said == [
            "token token 0o600 64",
            f"driver tuner.sweep cartpole --trials 3 --out {tmp_path}/runs --address {address}",
        ]
        assert address.endswith(":6379")

    @pytest.mark.parametrize("final", [EXIT_TRIALS_FAILED, EXIT_USAGE, EXIT_STATE])
    def test_what_would_end_so_again_is_not_put_back(self, script: Path, batch_job: Any, final: int) -> None:
        code, said = batch_job(script, final).end()
        assert code == final
        assert not [line for line in said if line.startswith("scontrol")]

    def test_usr1_is_handed_on_the_driver_is_waited_for_and_the_job_put_back(
        self, script: Path, batch_job: Any
    ) -> None:
        job = batch_job(script, "never")
        job.wait_for("driver")
        job.process.send_signal(signal.SIGUSR1)
        code, said = job.end()
        assert code == EXIT_INTERRUPTED
        assert said[-2:] == ["saved", "scontrol requeue 7"]

    def test_usr1_harms_nothing_but_the_sweep(self, script: Path, batch_job: Any) -> None:
        job = batch_job(script, "never", STOPS_WITH=str(EXIT_DONE))  # its last trial ended as the signal came
        job.wait_for("driver")
        job.process.send_signal(signal.SIGUSR1)
        code, said = job.end()
        assert (code, said[-1]) == (EXIT_DONE, "saved")

    def test_a_cancelled_job_saves_and_is_not_put_back(self, script: Path, batch_job: Any) -> None:
        job = batch_job(script, "never")
        job.wait_for("driver")
        job.process.send_signal(signal.SIGTERM)
        code, said = job.end()
        assert (code, said[-1]) == (EXIT_INTERRUPTED, "saved")

    def test_a_driver_that_was_killed_is_put_back(self, script: Path, batch_job: Any) -> None:
        code, said = batch_job(script, "SIGKILL").end()
        assert (code, said[-1]) == (128 + signal.SIGKILL, "scontrol requeue 7")

    def test_a_job_is_not_put_back_for_ever(self, script: Path, batch_job: Any) -> None:
        code, said = batch_job(script, EXIT_INTERRUPTED, SLURM_RESTART_COUNT="20").end()
        assert code == EXIT_INTERRUPTED
        assert not [line for line in said if line.startswith("scontrol")]

    def test_a_job_that_is_warned_while_ray_starts_is_put_back(self, script: Path, batch_job: Any) -> None:
        job = batch_job(script, "never", RAY_STARTS_IN_S="1")
        job.wait_for_ray()
        job.process.send_signal(signal.SIGUSR1)
        code, said = job.end()
        assert (code, said[-1]) == (EXIT_INTERRUPTED, "scontrol requeue 7")

    def test_a_ray_that_does_not_start_is_not_taken_for_success(self, script: Path, batch_job: Any) -> None:
        code, said = batch_job(script, EXIT_DONE, RAY_DOES_NOT_START="").end()
        assert (code, said) == (EXIT_INTERRUPTED, ["scontrol requeue 7"])
