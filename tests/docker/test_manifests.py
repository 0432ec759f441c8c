"""What docker/kubernetes makes: valid for three Kubernetes versions, and no right too many."""

from __future__ import annotations

import base64
import contextlib
import copy
import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml

from include.settings import PROJECT
from tests.docker.conftest import KUBERNETES, documents, manifests

pytestmark = pytest.mark.airflow

STRING_MAP = {"type": "object", "additionalProperties": {"type": "string"}}
SCALED_OBJECT = {
    # After KEDA's documentation of ScaledObject and of its Prometheus trigger; not KEDA's own.
    "type": "object",
    "additionalProperties": False,
    "required": ["apiVersion", "kind", "metadata", "spec"],
    "properties": {
        "apiVersion": {"const": "keda.sh/v1alpha1"},
        "kind": {"const": "ScaledObject"},
        "metadata": {
            "type": "object",
            "additionalProperties": False,
            "required": ["name", "namespace"],
            "properties": {
                "name": {"type": "string", "pattern": "^[a-z0-9-]{1,63}$"},
                "namespace": {"type": "string"},
                "labels": STRING_MAP,
                "annotations": STRING_MAP,
            },
        },
        "spec": {
            "type": "object",
            "additionalProperties": False,
            "required": ["scaleTargetRef", "triggers"],
            "properties": {
                "scaleTargetRef": {
                    "type": "object",
                    "additionalProperties": False,
                    "required": ["name"],
                    "properties": {
                        "apiVersion": {"type": "string"},
                        "kind": {"enum": ["Deployment", "StatefulSet"]},
                        "name": {"type": "string"},
                    },
                },
                "pollingInterval": {"type": "integer", "minimum": 1},
                "cooldownPeriod": {"type": "integer", "minimum": 0},
                "minReplicaCount": {"type": "integer", "minimum": 0},
                "maxReplicaCount": {"type": "integer", "minimum": 1},
                "triggers": {
                    "type": "array",
                    "minItems": 1,
                    "items": {
                        "type": "object",
                        "additionalProperties": False,
                        "required": ["type", "metadata"],
                        "properties": {
                            "type": {"const": "prometheus"},
                            "metadata": {
                                "type": "object",
                                "additionalProperties": False,
                                "required": ["serverAddress", "query", "threshold"],
                                "properties": {
                                    "serverAddress": {"type": "string", "pattern": "^https?://"},
                                    "query": {"type": "string"},
                                    "threshold": {"type": "string", "pattern": r"^[0-9.]+$"},
                                    "activationThreshold": {"type": "string"},
                                    "ignoreNullValues": {"enum": ["true", "false"]},
                                },
                            },
                        },
                    },
                },
            },
        },
    },
}


def of_kind(*kinds):
    return [part for _, part in manifests() if part["kind"] in kinds]


def test_every_object_is_valid_for_three_versions(validate):
    named = [item for item in manifests() if item[1]["kind"] != "ScaledObject"]
    templates = [(path.name, documents(path)[0]) for path in sorted(KUBERNETES.glob("pods/*.yaml"))]
    assert len(templates) == 4
    [job] = documents(KUBERNETES / "settings.yaml")
    assert validate([*named, *templates, ("settings", job)]) == []


def test_the_validation_finds_a_misspelt_field(validate):
    [wrong] = documents(KUBERNETES / "pods/cpu.yaml")
    wrong["spec"]["serviceAcountName"] = wrong["spec"].pop("serviceAccountName")
    said = validate([("wrong", wrong)])
    assert len(said) == 3
    assert all("serviceAcountName" in line for line in said)


def test_pods_as_the_operator_sends_them_are_valid(validate):
    from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
    from kubernetes.client import ApiClient

    from include.stages.specs import STAGES
    from operators.runtimes.pod_manifest import load_template, pod_manifest
    from operators.runtimes.pod_needs import pod_needs
    from operators.runtimes.pod_records import PodRecord
    from operators.runtimes.pod_settings import PodSettings

    settings = PodSettings(gpu_image="understudy-worker:cuda")
    lost = PodRecord(
        pod="p", node="node-1", error="Preempted", code="pod.evicted", message="", pod_class="cpu",
        memory_mib=1, scratch_mib=1,
    )  # fmt: skip
    named = []
    for spec in STAGES.values():
        needs = pod_needs(spec, 2, settings, [lost])
        manifest = pod_manifest(
            load_template(settings, needs.pod_class),
            needs,
            settings,
            stage=spec.name,
            request_uri="s3://bucket/prefix#acme/run/x/001.request.json",
            threads=2,
            timeout_s=spec.timeout.total_seconds(),
        )
        operator = KubernetesPodOperator(
            task_id=f"pod_{spec.name}", name="stage", namespace=settings.namespace,
            kubernetes_conn_id=None, pod_template_dict=manifest,
        )  # fmt: skip
        pod = ApiClient().sanitize_for_serialization(operator.build_pod_request_obj(dry_run=True))
        container = pod["spec"]["containers"][0]
        assert container["args"][0] == spec.name
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
        assert pod["spec"]["restartPolicy"] == "Never"
        named.append((spec.name, pod))
    assert validate(named) == []


def test_scaled_objects_follow_kedas_documentation_and_scale_what_the_values_make():
    values = yaml.safe_load((KUBERNETES / "values.yaml").read_text())
    celery = values["workers"]["celery"]
    assert celery["persistence"]["enabled"] is False, "else the workers are a StatefulSet"
    made = {f"airflow-worker-{part['name']}" for part in celery["sets"]}
    pools = yaml.safe_load((PROJECT / "airflow_settings.yaml").read_text())["airflow"]["pools"]
    scaled = of_kind("ScaledObject")
    assert {part["spec"]["scaleTargetRef"]["name"] for part in scaled} == made
    for part in scaled:
        jsonschema.validate(part, SCALED_OBJECT)
        assert part["spec"]["scaleTargetRef"]["kind"] == "Deployment"
        [trigger] = part["spec"]["triggers"]
        pool = part["metadata"]["name"].removeprefix("airflow-worker-")
        assert pool in {each["pool_name"] for each in pools}
        for metric in ("airflow_pool_queued_slots", "airflow_pool_running_slots"):
            assert f'{metric}{{pool="{pool}"}}' in trigger["metadata"]["query"]


def settings_job():
    """The job's container and its pod."""
    [job] = documents(KUBERNETES / "settings.yaml")
    spec = job["spec"]["template"]["spec"]
    [container] = spec["containers"]
    return container, spec


def test_the_job_makes_the_pools_and_variables_that_the_dags_ask_for(tmp_path):
    """Its own command, on a database of our own."""
    database = tmp_path / "airflow.db"
    container, _ = settings_job()
    values = yaml.safe_load((KUBERNETES / "values.yaml").read_text())
    chart = {values["data"]["metadataSecretName"]: "connection"}
    chart[values["fernetKeySecretName"]] = "fernet-key"
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")},
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(PROJECT),
        "AIRFLOW_HOME": str(tmp_path),
    }
    secret = {
        "connection": f"sqlite:///{database}",
        "fernet-key": base64.urlsafe_b64encode(b"k" * 32).decode(),
    }
    for variable in container["env"]:
        asked = variable.get("valueFrom", {}).get("secretKeyRef")
        if asked:
            assert chart[asked["name"]] == asked["key"]
        env[variable["name"]] = secret[asked["key"]] if asked else variable["value"]
    for command in (["airflow", "db", "migrate"], container["args"]):
        subprocess.run(command, check=True, env=env, cwd=PROJECT, capture_output=True)
    with contextlib.closing(sqlite3.connect(database)) as made:
        pools = dict(made.execute("select pool, slots from slot_pool").fetchall())
        variables = {name for (name,) in made.execute("select key from variable")}
    [quota] = of_kind("ResourceQuota")
    assert pools["cpu"] == int(quota["spec"]["hard"]["pods"])
    assert pools["io"] == 8
    assert {"understudy_review_hours", "understudy_briefs", "understudy_drift_policy"} <= variables


def test_the_job_runs_read_only_without_rights_and_as_the_values_image():
    container, spec = settings_job()
    values = yaml.safe_load((KUBERNETES / "values.yaml").read_text())
    image = values["images"]["airflow"]
    assert container["image"] == f"{image['repository']}:{image['tag']}"
    assert spec["securityContext"] == values["securityContexts"]["pod"]
    assert container["securityContext"] == values["securityContexts"]["containers"]
    assert spec["automountServiceAccountToken"] is False
    assert values["airflowHome"] in {mount["mountPath"] for mount in container["volumeMounts"]}


class Gauges(dict):
    """Takes gauges as Airflow's StatsD client is given them."""

    def gauge(self, stat, value, rate, delta):
        self[f"airflow.{stat}"] = value


def told_by_airflow(pools):
    """What the scheduler tells StatsD of pools, by its own code, with its default settings."""
    from airflow._shared.observability.metrics import stats
    from airflow._shared.observability.metrics.statsd_logger import SafeStatsdLogger
    from airflow.configuration import conf

    found = Gauges()
    legacy = conf.getboolean("metrics", "legacy_names_on")
    stats.initialize(factory=lambda: SafeStatsdLogger(found), export_legacy_names=legacy)
    try:
        for pool in pools:
            for what in ("queued", "running"):
                stats.gauge(f"pool.{what}_slots", 1, tags={"pool_name": pool})
    finally:
        stats.initialize(factory=None, export_legacy_names=legacy)
    return set(found)


def test_the_exporter_names_what_airflow_tells_as_keda_asks_for_it():
    values = yaml.safe_load((KUBERNETES / "values.yaml").read_text())
    named = set()
    for told in told_by_airflow(["cpu", "io"]):
        for mapping in values["statsd"]["extraMappings"]:
            found = re.fullmatch(re.escape(mapping["match"]).replace(r"\*", r"([^.]+)"), told)
            if found:
                [(label, value)] = mapping["labels"].items()
                named.add(f'{mapping["name"]}{{{label}="{value.replace("$1", found[1])}"}}')
    queries = [part["spec"]["triggers"][0]["metadata"]["query"] for part in of_kind("ScaledObject")]
    asked = {each for query in queries for each in re.findall(r"\w+\{[^}]*\}", query)}
    assert len(asked) == 4
    assert asked <= named


LOG_PROVIDERS = {"s3": "amazon", "cloudwatch": "amazon", "gs": "google", "wasb": "microsoft-azure"}


def test_the_values_ask_for_no_provider_that_the_image_lacks():
    """Airflow imports what keeps logs elsewhere when it starts, in every process."""
    config = yaml.safe_load((KUBERNETES / "values.yaml").read_text())["config"]
    place = config.get("logging", {}).get("remote_base_log_folder", "")
    wanted = {LOG_PROVIDERS[place.partition("://")[0]]} if place else set()
    wanted.add(re.fullmatch(r"airflow\.providers\.(\w+)\..*", config["core"]["auth_manager"])[1])
    lock = (PROJECT / "docker/airflow/requirements.txt").read_text()
    for provider in wanted:
        assert f"\napache-airflow-providers-{provider}==" in lock


def test_a_scaled_object_with_a_misspelt_field_is_found():
    wrong = copy.deepcopy(of_kind("ScaledObject")[0])
    wrong["spec"]["maxReplicas"] = wrong["spec"].pop("maxReplicaCount")
    with pytest.raises(jsonschema.ValidationError, match="maxReplicas"):
        jsonschema.validate(wrong, SCALED_OBJECT)


def test_no_role_has_a_wildcard_or_reaches_beyond_stage_pods():
    roles = of_kind("Role", "ClusterRole")
    assert {role["kind"] for role in roles} == {"Role"}
    for role in roles:
        assert role["metadata"]["namespace"] == "understudy-stages"
        for rule in role["rules"]:
            assert rule["apiGroups"] == [""]
            assert set(rule["resources"]) <= {"pods", "pods/log", "events"}
            assert set(rule["verbs"]) <= {"create", "get", "list", "patch", "delete"}
    for binding in of_kind("RoleBinding"):
        accounts = [subject["name"] for subject in binding["subjects"]]
        assert set(accounts) <= {"airflow-worker", "airflow-triggerer"}
    assert not of_kind("ClusterRoleBinding")


def test_stage_pods_have_an_account_without_rights_or_token():
    [account] = of_kind("ServiceAccount")
    assert account["automountServiceAccountToken"] is False
    bound = [s["name"] for b in of_kind("RoleBinding") for s in b["subjects"]]
    assert account["metadata"]["name"] not in bound


@pytest.mark.parametrize("path", sorted(KUBERNETES.glob("pods/*.yaml")), ids=lambda p: p.stem)
def test_stage_pods_can_do_nothing_but_work(path):
    spec = documents(path)[0]["spec"]
    assert spec["serviceAccountName"] == "understudy-stage"
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
    [container] = spec["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    for volume in spec.get("volumes", ()):
        assert set(volume) <= {"name", "secret", "configMap"}


def test_only_signing_pods_see_the_signing_key():
    seen = {
        path.stem
        for path in KUBERNETES.glob("pods/*.yaml")
        if "understudy-signer" in path.read_text()
    }
    assert seen == {"io"}


@pytest.mark.parametrize("path", sorted(KUBERNETES.glob("pods/*.yaml")), ids=lambda p: p.stem)
def test_what_decides_what_is_published_is_named_and_mounted(path):
    """``check_told`` compares the names; here: the file of each is in a volume, and has to be."""
    spec = documents(path)[0]["spec"]
    [container] = spec["containers"]
    named = {variable["name"]: variable["value"] for variable in container["env"]}
    wanted = {"UNDERSTUDY_CONSENT_KEYS", "UNDERSTUDY_REVOKED"}
    if path.stem == "io":
        wanted |= {f"UNDERSTUDY_{n}" for n in ("SIGNER_CHAIN", "SIGNER_KEY", "TRUST_ANCHORS")}
    assert wanted <= set(named)
    mounted = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
    for name in wanted:
        place = named[name]
        assert place in mounted or place.rpartition("/")[0] in mounted, name
    assert all("subPath" not in mount for mount in mounted.values()), "it would never change"
    [revoked] = [volume for volume in spec["volumes"] if volume["name"] == "revoked"]
    entry = named["UNDERSTUDY_REVOKED"].rpartition("/")[2]
    assert revoked["configMap"]["items"] == [{"key": entry, "path": entry}]
    assert not revoked["configMap"].get("optional")


def test_airflow_plans_by_the_consent_keys_and_revocations_that_pods_publish_by():
    """Both are checked when a campaign is planned, long before a pod starts."""
    values = yaml.safe_load((KUBERNETES / "values.yaml").read_text())
    named = {variable["name"]: variable["value"] for variable in values["env"]}
    volumes = {volume["name"]: volume for volume in values["volumes"]}
    mounts = {mount["name"]: mount for mount in values["volumeMounts"]}
    [cpu] = documents(KUBERNETES / "pods/cpu.yaml")
    theirs = {volume["name"]: volume for volume in cpu["spec"]["volumes"]}
    for name, variable in (
        ("consent-keys", "UNDERSTUDY_CONSENT_KEYS"), ("revoked", "UNDERSTUDY_REVOKED"),
    ):  # fmt: skip
        assert volumes[name] == theirs[name]
        assert named[variable].startswith(mounts[name]["mountPath"])
        assert mounts[name]["readOnly"] is True
        assert "subPath" not in mounts[name], "it would never change"
    keys = [
        part["metadata"]["namespace"] for part in of_kind("ConfigMap")
        if part["metadata"]["name"] == "understudy-consent-keys"
    ]  # fmt: skip
    assert sorted(keys) == ["understudy", "understudy-stages"]


def test_stages_reach_names_and_the_store_and_nobody_reaches_them():
    policies = {
        part["metadata"]["name"]: part["spec"] for part in of_kind("NetworkPolicy")
        if part["metadata"]["namespace"] == "understudy-stages"
    }  # fmt: skip
    assert policies["deny-all"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    others = [spec for name, spec in policies.items() if name != "deny-all"]
    assert all("ingress" not in spec for spec in others)
    ports = {p["port"] for spec in others for rule in spec["egress"] for p in rule["ports"]}
    assert ports == {53, 443, 8080}
    blocks = [
        to["ipBlock"] for spec in others for rule in spec["egress"] for to in rule["to"]
        if "ipBlock" in to
    ]  # fmt: skip
    assert all("169.254.0.0/16" in block["except"] for block in blocks)


def test_with_the_charts_policies_those_who_need_airflow_still_reach_it():
    """After the chart's templates: its policy of the API server lets in nobody but these peers,
    that of StatsD Airflow and these, those of workers and triggerers not the API server."""
    values = yaml.safe_load((KUBERNETES / "values.yaml").read_text())
    assert values["networkPolicies"]["enabled"] is True
    peers = values["apiServer"]["networkPolicy"]["ingress"]["from"]
    ours = {"podSelector": {"matchLabels": {"tier": "airflow", "release": "airflow"}}}
    assert ours in peers, "tasks, scheduler and triggerer, which speak to it all the time"
    assert any("namespaceSelector" in peer for peer in peers), "people, by way of an ingress"
    [monitoring] = [
        peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
        for peer in values["statsd"]["extraNetworkPolicies"]
    ]
    for scaled in of_kind("ScaledObject"):
        server = scaled["spec"]["triggers"][0]["metadata"]["serverAddress"]
        assert f".{monitoring}:" in server
    [logs] = [
        part["spec"] for part in of_kind("NetworkPolicy")
        if part["metadata"]["namespace"] == "understudy"
    ]  # fmt: skip
    [rule] = logs["ingress"]
    assert {port["port"] for port in rule["ports"]} == {8793, 8794}
    [peer] = rule["from"]
    assert peer["podSelector"]["matchLabels"]["component"] == "api-server"


def test_each_budget_leaves_its_component_drainable():
    values = yaml.safe_load((KUBERNETES / "values.yaml").read_text())
    replicas = {
        "scheduler": values["scheduler"]["replicas"],
        "api-server": values["apiServer"]["replicas"],
        "triggerer": values["triggerer"]["replicas"],
    }
    budgets = of_kind("PodDisruptionBudget")
    assert {part["spec"]["selector"]["matchLabels"]["component"] for part in budgets} == set(
        replicas
    )
    for part in budgets:
        component = part["spec"]["selector"]["matchLabels"]["component"]
        assert part["spec"]["minAvailable"] < replicas[component]


def test_namespaces_of_stages_are_restricted():
    [stages] = [n for n in of_kind("Namespace") if n["metadata"]["name"] == "understudy-stages"]
    assert stages["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_what_is_named_exists():
    """Config maps, accounts and priority classes that pods name; secrets are made by others.

    So is the list of who revoked: it would be lost when the manifests are applied again.
    """
    made = {(part["kind"], part["metadata"]["name"]) for _, part in manifests()}
    assert ("ConfigMap", "understudy-revoked") not in made
    assert "understudy-revoked" in (PROJECT / "docker/README.md").read_text()
    made.add(("ConfigMap", "understudy-revoked"))
    for path in KUBERNETES.glob("pods/*.yaml"):
        spec = documents(path)[0]["spec"]
        assert ("ServiceAccount", spec["serviceAccountName"]) in made
        assert ("PriorityClass", spec["priorityClassName"]) in made
        for source in spec["containers"][0]["envFrom"]:
            if "configMapRef" in source:
                assert ("ConfigMap", source["configMapRef"]["name"]) in made
        for volume in spec.get("volumes", ()):
            if "configMap" in volume:
                assert ("ConfigMap", volume["configMap"]["name"]) in made
    assert not [part for _, part in manifests() if part["kind"] == "Secret"]


def test_the_project_says_of_every_setting_in_the_values_what_it_means():
    from include import settings
    from operators.runtimes import pod_settings

    values = yaml.safe_load((KUBERNETES / "values.yaml").read_text())
    said = f"{settings.__doc__}{pod_settings.__doc__}"
    for variable in values["env"]:
        assert variable["name"] in said
