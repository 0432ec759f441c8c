"""What a stage's pod asks for, and the pod that comes of it."""

from __future__ import annotations

import pytest

from include.errors import Misconfigured, Usage
from include.stages.specs import STAGES
from operators.runtimes.pod_manifest import check_told, load_template, pod_manifest
from operators.runtimes.pod_needs import pod_needs
from operators.runtimes.pod_records import PodRecord
from operators.runtimes.pod_settings import PodSettings

pytestmark = pytest.mark.airflow

CPU_ONLY = PodSettings()
WITH_GPUS = PodSettings(gpu_image="worker:cuda", memory_max_mib=8192)


def record(error, code="pod.oom", pod_class="cpu", node="n1", memory=2048, scratch=4096):
    return PodRecord(
        pod="p", node=node, error=error, code=code, message="", pod_class=pod_class,
        memory_mib=memory, scratch_mib=scratch,
    )  # fmt: skip


def test_every_stage_has_a_class_whose_template_there_is():
    for settings in (CPU_ONLY, WITH_GPUS):
        for spec in STAGES.values():
            needs = pod_needs(spec, 1, settings)
            assert load_template(settings, needs.pod_class)["kind"] == "Pod"
    assert {pod_needs(spec, 1, CPU_ONLY).gpus for spec in STAGES.values()} == {0}


def test_without_a_gpu_image_no_stage_asks_for_one():
    upscale = STAGES["upscale"]
    assert pod_needs(upscale, 1, CPU_ONLY).pod_class == "cpu"
    assert pod_needs(upscale, 1, WITH_GPUS).pod_class == "gpu-small"
    assert pod_needs(STAGES["sign"], 1, WITH_GPUS).pod_class == "io"


def test_a_gpu_that_only_some_backends_use_is_asked_for_with_those():
    swap = STAGES["face_swap"]
    assert pod_needs(swap, 1, WITH_GPUS, backends=["mesh"]).pod_class == "cpu"
    assert pod_needs(swap, 1, WITH_GPUS, backends=["mesh", "mesh-batched"]).pod_class == "gpu-small"
    assert pod_needs(swap, 1, CPU_ONLY, backends=["mesh-batched"]).pod_class == "cpu"


def test_signing_and_publishing_take_no_spot_node():
    assert pod_needs(STAGES["face_swap"], 1, CPU_ONLY).spot
    assert not pod_needs(STAGES["sign"], 1, CPU_ONLY).spot
    assert not pod_needs(STAGES["face_swap"], 1, PodSettings(spot=None)).spot


def test_memory_doubles_up_to_the_most_there_is_and_a_gpu_grows():
    upscale = STAGES["upscale"]
    once = pod_needs(upscale, 1, WITH_GPUS, [record("OutOfMemory", pod_class="gpu-small")])
    assert (once.memory_mib, once.pod_class) == (4096, "gpu-large")
    often = [record("OutOfMemory", memory=2048 * 2**n) for n in range(4)]
    assert pod_needs(upscale, 1, WITH_GPUS, often).memory_mib == 8192


def test_a_full_disk_gets_twice_the_disk_and_no_more_memory():
    full = record("OutOfMemory", code="pod.scratch_full")
    needs = pod_needs(STAGES["face_swap"], 1, CPU_ONLY, [full])
    assert (needs.scratch_mib, needs.memory_mib) == (8192, 2048)


def test_a_transient_failure_changes_nothing():
    plain = pod_needs(STAGES["face_swap"], 1, CPU_ONLY)
    assert pod_needs(STAGES["face_swap"], 1, CPU_ONLY, [record("Transient")]) == plain


def test_lost_nodes_are_avoided_once_each():
    lost = [record("Preempted", node=node) for node in ("n1", "n2", "n1", None)]
    needs = pod_needs(STAGES["face_swap"], 1, CPU_ONLY, lost)
    assert needs.avoid == ("n1", "n2")
    assert not needs.spot


def test_a_gpu_pod_gets_the_gpu_image_a_device_and_its_nodes():
    needs = pod_needs(STAGES["upscale"], 2, WITH_GPUS)
    template = load_template(WITH_GPUS, needs.pod_class)
    made = pod_manifest(
        template,
        needs,
        WITH_GPUS,
        stage="upscale",
        request_uri="s3://b#k",
        threads=2,
        timeout_s=600,
    )
    container = made["spec"]["containers"][0]
    assert container["image"] == "worker:cuda"
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert container["resources"]["requests"]["cpu"] == "2000m"
    assert "cpu" not in container["resources"]["limits"]
    assert made["spec"]["activeDeadlineSeconds"] == 900
    assert made["spec"]["nodeSelector"] == {"understudy/gpu": "small"}
    assert {t["key"] for t in made["spec"]["tolerations"]} == {"nvidia.com/gpu", "understudy/spot"}
    assert load_template(WITH_GPUS, needs.pod_class) == template, "the template is not changed"


PUBLISHED = ("UNDERSTUDY_REVOKED", "UNDERSTUDY_CONSENT_KEYS", "UNDERSTUDY_BACKENDS")
SIGNED = ("UNDERSTUDY_SIGNER_CHAIN", "UNDERSTUDY_TRUST_ANCHORS")


def template_with(*variables):
    return {"spec": {"containers": [{"name": "base", "env": list(variables)}]}}


@pytest.mark.parametrize("name", [*PUBLISHED, *SIGNED])
def test_a_setting_that_decides_what_is_published_has_to_be_in_the_template(name):
    here = {name: "/etc/a-file"}
    for lacking in ({"spec": {"containers": [{}]}}, template_with({"name": name, "value": ""})):
        with pytest.raises(Misconfigured, match=rf"(?s){name}.*io\.yaml.*mount") as caught:
            check_told(lacking, "io", here)
        assert caught.value.code == "pod.settings"
        check_told(lacking, "io", {name: ""})
    check_told(template_with({"name": name, "value": "/etc/elsewhere"}), "io", here)
    key = {"configMapKeyRef": {"name": "where", "key": "file"}}
    check_told(template_with({"name": name, "valueFrom": key}), "io", here)


def test_only_pods_that_sign_have_to_know_the_signer():
    check_told(template_with(), "cpu", dict.fromkeys(SIGNED, "/etc/a-file"))


def test_our_own_templates_tell_what_the_values_of_the_chart_set():
    here = dict.fromkeys(("UNDERSTUDY_REVOKED", "UNDERSTUDY_CONSENT_KEYS", *SIGNED), "/etc/a-file")
    for pod_class in ("cpu", "gpu-small", "gpu-large", "io"):
        check_told(load_template(CPU_ONLY, pod_class), pod_class, here)


def test_the_price_of_a_core_reaches_the_pod_that_publishes_figures(monkeypatch):
    def told(template):
        needs = pod_needs(STAGES["publish"], 1, PodSettings.from_env())
        made = pod_manifest(
            template, needs, PodSettings.from_env(), stage="publish", request_uri="s3://b#k",
            threads=1, timeout_s=600,
        )  # fmt: skip
        variables = made["spec"]["containers"][0]["env"]
        return [v["value"] for v in variables if v["name"] == "UNDERSTUDY_CORE_HOUR"]

    monkeypatch.delenv("UNDERSTUDY_CORE_HOUR", raising=False)
    assert told(template_with()) == []
    monkeypatch.setenv("UNDERSTUDY_CORE_HOUR", "0.07")
    assert told(template_with()) == ["0.07"]
    own = template_with({"name": "UNDERSTUDY_CORE_HOUR", "value": "0.02"})
    assert told(own) == ["0.02"], "the template's own says more"


@pytest.mark.parametrize(
    "text", ["", "- a list", "kind: Pod\nspec: {containers: [{name: other}]}", "kind: ["]
)
def test_a_template_that_is_no_pod_is_named(tmp_path, text):
    (tmp_path / "cpu.yaml").write_text(text)
    with pytest.raises(Misconfigured, match=r"cpu\.yaml"):
        load_template(PodSettings(templates=tmp_path), "cpu")


def test_a_setting_that_is_no_number_is_named(monkeypatch):
    monkeypatch.setenv("UNDERSTUDY_POD_START_S", "soon")
    with pytest.raises(Usage, match="UNDERSTUDY_POD_START_S"):
        PodSettings.from_env()
