"""deploy/kubernetes against the schemas of Kubernetes itself, where no field is too much."""

import pathlib
import tomllib

import kubernetes_validate
import pytest
import yaml

FOLDER = pathlib.Path(__file__).resolve().parents[3] / "deploy" / "kubernetes"
COLLATERAL = FOLDER.parent / "collateral" / "cronjob.yaml"
SIDECAR = FOLDER.parent / "proxy" / "sidecar.yaml"
VERSION = "1.37"
# Not Kubernetes' own: KEDA's is for tests/clients/typescript, kustomize's for kustomize.
FOREIGN = {"ScaledObject", "Kustomization"}


def documents():
    for path in sorted(FOLDER.glob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text()):
            yield path.name, document


OURS = [(name, doc) for name, doc in documents() if doc["kind"] not in FOREIGN]


@pytest.mark.parametrize(("name", "document"), OURS, ids=[f"{name}-{doc['kind']}" for name, doc in OURS])
def test_every_object_has_its_schema(name, document):
    kubernetes_validate.validate(document, VERSION, strict=True)


def test_the_side_car_has_its_schema_and_no_privilege():
    document = yaml.safe_load(SIDECAR.read_text())
    kubernetes_validate.validate(document, VERSION, strict=True)
    pod = document["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] and not pod["automountServiceAccountToken"]
    assert pod["enableServiceLinks"] is False
    (proxy,) = pod["initContainers"]
    assert proxy["restartPolicy"] == "Always" and proxy["args"][0] == "proxy"
    # Loopback, and no probe that could not reach it.
    assert "--listen" not in proxy["args"] and not [key for key in proxy if key.endswith("Probe")]
    for container in [proxy, *pod["containers"]]:
        context = container["securityContext"]
        assert context["readOnlyRootFilesystem"] and context["capabilities"] == {"drop": ["ALL"]}


def test_fresh_collateral_is_stored_whether_or_not_it_is_overdue():
    documents = list(yaml.safe_load_all(COLLATERAL.read_text()))
    for document in documents:
        kubernetes_validate.validate(document, VERSION, strict=True)
    job = documents[0]["spec"]["jobTemplate"]["spec"]
    pod = job["template"]["spec"]
    # What fails before `store` keeps it from running: only the fetching is there, which succeeds with overdue documents.
    assert [container["args"][:2] for container in pod["initContainers"]] == [["collateral", "fetch"]]
    by_name = {container["name"]: container for container in pod["containers"]}
    assert set(by_name) == {"store", "due"} and by_name["due"]["args"][:2] == ["collateral", "show"]
    # Each ends by itself, so that a failure of one ends neither the other nor the pod.
    assert pod["restartPolicy"] == "Never"
    (rule,) = job["podFailurePolicy"]["rules"]
    assert rule == {"action": "FailJob", "onExitCodes": {"containerName": "due", "operator": "In", "values": [10]}}
    for container in [*pod["initContainers"], *pod["containers"]]:
        context = container["securityContext"]
        assert context["readOnlyRootFilesystem"] and context["capabilities"] == {"drop": ["ALL"]}


def test_a_container_has_certificate_roots():
    """`collateral fetch` and `proxy` speak TLS: their images know whom to trust."""
    script = (FOLDER.parents[1] / "scripts" / "image.sh").read_text()
    assert "ca-certificates" in script.split("make_build_base()")[1].split("}")[0]
    assert 'cp -L "$work/build/etc/ssl/certs/ca-certificates.crt"' in script.split("make_run_base()")[1].split("\n}")[0]


def test_a_misspelt_field_would_be_noticed():
    _, document = next((name, doc) for name, doc in OURS if doc["kind"] == "Deployment")
    document = {**document, "spec": {**document["spec"], "replica": 1}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(document, VERSION, strict=True)


def test_kustomize_takes_every_file():
    listed = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
    files = {path.name for path in FOLDER.glob("*.yaml")} - {"kustomization.yaml"}
    assert set(listed["resources"]) == files
    for generator in listed["configMapGenerator"]:
        for file in generator["files"]:
            assert (FOLDER / file).is_file()


def test_no_container_is_privileged_or_holds_a_secret():
    for _, document in OURS:
        assert document["kind"] != "Secret"
        if document["kind"] != "Deployment":
            continue
        pod = document["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] and not pod["automountServiceAccountToken"]
        for container in pod["containers"]:
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"] and not context["allowPrivilegeEscalation"]
            assert context["capabilities"] == {"drop": ["ALL"]}


def test_probes_have_a_listener_that_clients_do_not_reach():
    by_kind = {}
    for _, document in OURS:
        by_kind.setdefault((document["kind"], document["metadata"]["name"]), document)
    settings = tomllib.loads(by_kind["ConfigMap", "node"]["data"]["obscura.toml"])
    port = int(settings["health_listen"].rsplit(":", 1)[1])
    assert port != int(settings["listen"].rsplit(":", 1)[1])
    (container,) = by_kind["Deployment", "node"]["spec"]["template"]["spec"]["containers"]
    names = {entry["name"]: entry["containerPort"] for entry in container["ports"]}
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert names[container[probe]["httpGet"]["port"]] == port
    for rule in by_kind["NetworkPolicy", "node"]["spec"]["ingress"]:
        assert rule["from"], "nobody reaches a node but by name"
    assert f"check port {port} " in (FOLDER / "haproxy.cfg").read_text()
