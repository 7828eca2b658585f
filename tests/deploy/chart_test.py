"""The Helm chart, rendered by Helm's own engine (no cluster, no helm binary), the container file and the systemd unit. What
the chart gives must fit Kubernetes' own schemas, hang together, and hold a config that `weir check` accepts. Without a
cluster and a container daemon nothing here says that it runs."""

import itertools
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

import helm_python as helm
import kubernetes_validate
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
CHART = ROOT / "deploy/helm/weir"
UNIT = ROOT / "deploy/weir.service"
WEIR = os.environ["WEIR_BIN"]
# From the oldest that has all the chart uses to the newest whose schemas are at hand.
KUBERNETES = ["1.27", "1.32", kubernetes_validate.latest_version()]


def rendered(values=None):
    """Every object by its kind."""
    with helm.Chart.load(CHART) as chart:
        texts = chart.render(values or {}, name="r1", namespace="ns").values()
    objects = [found for text in texts for found in yaml.safe_load_all(text) if found]
    return {found["kind"]: found for found in objects}


class Chart(unittest.TestCase):
    def test_lint(self):
        report = helm.lint(CHART, strict=True)
        self.assertEqual([m for m in report["messages"] if m["severity"] > 1], [])
        self.assertFalse(report["errors"])

    def test_every_switch_in_every_position(self):
        switches = {
            "autoscaling": [{"enabled": False}, {"enabled": True, "inFlightPerPod": 8, "queuePerPod": 2}],
            "secretName": ["", "weir-keys"],
            "modelsClaim": ["", "models"],
            "scrapeAnnotations": [True, False],
        }
        for values in itertools.product(*switches.values()):
            asked = dict(zip(switches, values))
            with self.subTest(asked):
                objects = rendered(asked)
                self.holds_together(objects, asked)
                for version, found in itertools.product(KUBERNETES, objects.values()):
                    kubernetes_validate.validate(found, version, strict=True)

    def test_a_wrong_field_would_show(self):
        service = rendered()["Service"]
        service["spec"]["prots"] = service["spec"].pop("ports")
        with self.assertRaises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(service, KUBERNETES[-1], strict=True)

    def holds_together(self, objects, asked):
        pod = objects["Deployment"]["spec"]["template"]
        labels = pod["metadata"]["labels"]
        for selector in [
            objects["Deployment"]["spec"]["selector"]["matchLabels"],
            objects["Service"]["spec"]["selector"],
            objects["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
            pod["spec"]["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"],
        ]:
            self.assertEqual({name: labels[name] for name in selector}, selector)
        [container] = pod["spec"]["containers"]
        ports = {port["name"] for port in container["ports"]}
        self.assertIn(objects["Service"]["spec"]["ports"][0]["targetPort"], ports)
        for probe, page in [("startupProbe", "/healthz"), ("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")]:
            self.assertEqual(container[probe]["httpGet"], {"path": page, "port": "http"})
        volumes = {volume["name"] for volume in pod["spec"]["volumes"]}
        self.assertEqual(volumes, {mount["name"] for mount in container["volumeMounts"]})
        self.assertEqual("models" in volumes, bool(asked["modelsClaim"]))
        self.assertEqual("HorizontalPodAutoscaler" in objects, asked["autoscaling"]["enabled"])
        self.assertEqual("replicas" in objects["Deployment"]["spec"], not asked["autoscaling"]["enabled"])
        if asked["autoscaling"]["enabled"]:
            scaler = objects["HorizontalPodAutoscaler"]["spec"]
            self.assertEqual(scaler["scaleTargetRef"]["name"], objects["Deployment"]["metadata"]["name"])
            names = [m["pods"]["metric"]["name"] for m in scaler["metrics"] if m["type"] == "Pods"]
            self.assertEqual(names, ["weir_in_flight", "weir_queue_depth"])
        redis = [one["value"] for one in container["env"] if one["name"] == "WEIR_REDIS_URL"]
        self.assertEqual(redis, [] if asked["secretName"] else ["redis://redis:6379/0"])
        self.assertGreater(pod["spec"]["terminationGracePeriodSeconds"], 5 + 30, "preStop and shutdown_grace_ms")

    def test_its_config_is_one_that_weir_takes(self):
        policy = (ROOT / "config/policies/ar-first.toml").read_text()
        own = {"config": '[policy]\nfile = "rules.toml"\n', "files": {"rules.toml": policy}}
        for values in [{}, own]:
            mounted = rendered(values)["ConfigMap"]["data"]
            with tempfile.TemporaryDirectory() as folder:
                for name, text in mounted.items():
                    (pathlib.Path(folder) / name).write_text(text)
                command = [WEIR, "check", "--config", pathlib.Path(folder) / "weir.toml"]
                environment = {**os.environ, "WEIR_REDIS_URL": "redis://redis:6379/0", "WEIR_SERVER__LISTEN": "0.0.0.0:8787"}
                checked = subprocess.run(command, env=environment, capture_output=True, text=True)
            self.assertEqual(checked.returncode, 0, checked.stderr)
        self.assertEqual(mounted["rules.toml"], policy)

    def test_a_new_config_is_a_new_pod(self):
        all_values = [{}, {"config": "x = 1"}, {"files": {"rules.toml": "x = 1"}}, {"files": {"rules.toml": "x = 2"}}]
        pods = [rendered(values)["Deployment"]["spec"]["template"] for values in all_values]
        self.assertEqual(len({pod["metadata"]["annotations"]["weir/config"] for pod in pods}), 4)

    def test_every_value_is_used(self):
        templates = "".join(path.read_text() for path in (CHART / "templates").iterdir())

        def leaves(values, path=()):
            for name, value in values.items():
                if isinstance(value, dict) and name != "resources":
                    yield from leaves(value, (*path, name))
                else:
                    yield ".".join((*path, name))

        for path in leaves(yaml.safe_load((CHART / "values.yaml").read_text())):
            self.assertIn(f".Values.{path}", templates)


class Container(unittest.TestCase):
    def test_a_linter_has_nothing_against_it(self):
        linter = pathlib.Path(sys.executable).with_name("hadolint")
        # DL3008 wants versions of Debian's packages: they would be gone from the mirrors with the next security fix.
        command = [linter, "--no-color", "--ignore", "DL3008", ROOT / "deploy/Containerfile"]
        linted = subprocess.run(command, capture_output=True, text=True)
        self.assertEqual((linted.returncode, linted.stdout), (0, ""), linted.stderr)

    def test_what_it_copies_and_starts_is_there(self):
        text = (ROOT / "deploy/Containerfile").read_text()
        package = re.search(r"cargo build --profile dist --locked --package (\S+)", text).group(1)
        self.assertIn(f'name = "{package}"', (ROOT / "gateway/Cargo.toml").read_text())
        self.assertTrue((ROOT / "Cargo.lock").is_file())
        command = " ".join(re.search(r"^CMD (\[.*\])", text, re.M).group(1).strip("[]").replace('"', "").split(", "))
        environment = dict(re.findall(r"^ENV (\w+)=(\S+)", text, re.M))
        options = command.removesuffix(" serve").split()
        with tempfile.TemporaryDirectory() as folder:
            checked = subprocess.run(
                [WEIR, *options, "check"], env={**os.environ, **environment}, cwd=folder, capture_output=True, text=True
            )
        self.assertEqual(checked.returncode, 0, checked.stderr)


class Unit(unittest.TestCase):
    @unittest.skipUnless(shutil.which("systemd-analyze"), "no systemd-analyze")
    def test_systemd_takes_it_and_it_is_hardened(self):
        with tempfile.TemporaryDirectory() as folder:
            # `verify` wants the program to be there.
            unit = pathlib.Path(folder) / "weir.service"
            unit.write_text(UNIT.read_text().replace("/usr/local/bin/weir", WEIR))
            verified = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True)
            own = [line for line in (verified.stdout + verified.stderr).splitlines() if "weir" in line]
            self.assertEqual(own, [])
            judged = subprocess.run(["systemd-analyze", "security", "--offline=true", unit], capture_output=True, text=True)
        level = re.search(r"exposure level for \S+: ([\d.]+)", judged.stdout)
        self.assertIsNotNone(level, judged.stdout + judged.stderr)
        self.assertLess(float(level.group(1)), 2.0)


if __name__ == "__main__":
    result = unittest.main(exit=False).result
    failed = len(result.failures) + len(result.errors)
    # The closing lines that `cargo xtask test` adds up.
    print(f"# pass {result.testsRun - failed - len(result.skipped)}\n# fail {failed}\n# skipped {len(result.skipped)}")
    sys.exit(failed > 0)
