"""The files for deployment say what the service understands, and keep to what they promise."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from nmtr.cli import application
from nmtr.cli.refresh import refresh
from nmtr.serving.http.app import ROUTERS
from nmtr.serving.http.options import Options, read_options
from nmtr.serving.http.tokens import VARIABLE, read_tokens
from nmtr.serving.store.opening import KEY, STORE

DEPLOY = Path(__file__).parent.parent / "deploy"
pytestmark = pytest.mark.skipif(not DEPLOY.is_dir(), reason="a source distribution has none")
PATHS = {getattr(route, "path", "") for router in ROUTERS for route in router.routes}


@pytest.fixture(scope="module")
def kubernetes() -> dict[str, Any]:
    documents = yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text())
    return {each["kind"]: each for each in documents}


def test_the_toml_example_is_understood_with_its_comments_taken_away(tmp_path: Path) -> None:
    text = (DEPLOY / "serve.toml").read_text()
    assert read_options(DEPLOY / "serve.toml", {}).bundle == "/etc/nmtr/model.nmtr"
    whole = tmp_path / "serve.toml"
    whole.write_text(re.sub(r"^# (\w+ = )", r"\1", text, flags=re.MULTILINE))
    assert len(tomllib.loads(whole.read_text())) > len(tomllib.loads(text))
    assert read_options(whole, {}).undone() == {"remove_from_cart": "cart"}


def test_the_pod_is_unprivileged_and_asked_at_paths_that_are_there(
    kubernetes: dict[str, Any],
) -> None:
    pod = kubernetes["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert not pod["automountServiceAccountToken"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["path"] in PATHS
    claims = {each["name"] for each in pod["volumes"]}
    assert {each["name"] for each in container["volumeMounts"]} == claims
    labels = kubernetes["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert kubernetes["Service"]["spec"]["selector"] == labels


def test_what_containers_are_told_is_what_the_service_reads(kubernetes: dict[str, Any]) -> None:
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["nmtr"]
    assert {STORE, KEY, VARIABLE} <= compose["environment"].keys()
    assert compose["read_only"]
    assert all(each.startswith("127.0.0.1:") for each in compose["ports"])
    secrets = (DEPLOY / "kubernetes.yaml").read_text().split("apiVersion", 1)[0]
    assert all(name in secrets for name in (STORE, KEY, VARIABLE))
    command = re.search(r"^CMD (\[.*\])", (DEPLOY / "Containerfile").read_text(), re.MULTILINE)
    assert command
    words: list[str] = yaml.safe_load(command[1])
    assert words == kubernetes["Deployment"]["spec"]["template"]["spec"]["containers"][0]["args"]
    options = dict(zip(words[1::2], words[2::2], strict=True))
    assert not Options(bundle=words[0], host=options["--host"]).is_local()
    example = (DEPLOY / "example.env").read_text().replace(":", ":" + 20 * "x")
    filled = re.search(rf"^{VARIABLE}=(.*)$", example, re.MULTILINE)
    assert filled
    assert read_tokens("", {VARIABLE: filled[1]})


def test_the_containerfile_ends_as_a_user_without_rights_from_two_stages() -> None:
    text = (DEPLOY / "Containerfile").read_text()
    assert len(re.findall(r"^FROM ", text, re.MULTILINE)) == 2
    last = text.rsplit("FROM ", 1)[1]
    assert re.search(r"^USER 10001:10001$", last, re.MULTILINE)
    asked = re.search(r"HEALTHCHECK[^\[]*(\[.*\])", last, re.DOTALL)
    assert asked
    program = yaml.safe_load(asked[1].splitlines()[0])[2]
    compile(program, "HEALTHCHECK", "exec")
    assert "/readyz" in program


def test_the_nightly_job_is_unprivileged_and_asks_for_what_the_command_takes() -> None:
    job = yaml.safe_load((DEPLOY / "kubernetes-refresh.yaml").read_text())["spec"]
    pod = job["jobTemplate"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert job["concurrencyPolicy"] == "Forbid"
    assert pod["securityContext"]["runAsNonRoot"]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    mounted = {each["name"] for each in container["volumeMounts"]}
    assert mounted == {each["name"] for each in pod["volumes"]}
    assert {STORE, KEY} <= {each["name"] for each in container["env"]}
    unit = (DEPLOY / "nmtr-refresh.service").read_text()
    line = re.search(r"^ExecStart=/opt/nmtr/bin/nmtr (.*)$", unit, re.MULTILINE)
    assert line
    for words in ([*container["command"], *container["args"]][1:], line[1].split()):
        command, bound, _ = application(words).parse_args(words, print_error=False)
        assert command is refresh
        assert bound.arguments["behaviors"] == "view,cart,buy"
    assert "OnCalendar=" in (DEPLOY / "nmtr-refresh.timer").read_text()


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not here")
@pytest.mark.parametrize("name", ["nmtr.service", "nmtr-refresh.service"])
def test_systemd_understands_the_unit_and_finds_it_well_locked(name: str, tmp_path: Path) -> None:
    unit = tmp_path / name
    text = (DEPLOY / name).read_text()
    unit.write_text(text.replace("/opt/nmtr/bin/nmtr", shutil.which("true") or "/bin/true"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--threshold=20", str(unit)],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def test_the_ray_job_has_as_many_machines_as_its_command_has_workers() -> None:
    documents = yaml.safe_load_all((DEPLOY / "kuberay.yaml").read_text())
    job = next(each for each in documents if each["kind"] == "RayJob")["spec"]
    words = job["entrypoint"].split()
    command, bound, _ = application(words[1:]).parse_args(words[1:], exit_on_error=False)
    assert command.__name__ == "train"
    assert bound.arguments["engine"] == "ray"
    (group,) = job["rayClusterSpec"]["workerGroupSpecs"]
    assert group["replicas"] == bound.arguments["workers"]
