"""A code generator is added by one value: the text of its module."""

import json
from typing import Any

import pytest
import yaml
from coffea_shoppe_servicex.settings import Settings
from rendering import NAMESPACE, RELEASE, HelmError, Manifest, template
from shoppe_ci.paths import ROOT

TOY = ROOT / "images" / "servicex" / "tests" / "added" / "columns.py"
FOLDER = "/etc/codegens"
NAME = f"{RELEASE}-servicex-codegens"


def values(**codegens: Manifest) -> Manifest:
    return {"servicex": {"codeGen": codegens}}


def objects(values: Manifest, kind: str) -> dict[tuple[str, str], Manifest]:
    documents = [each for each in template("coffea-shoppe", values) if each["kind"] == kind]
    return {
        (each["metadata"].get("namespace", NAMESPACE), each["metadata"]["name"]): each
        for each in documents
    }


def pods(values: Manifest) -> dict[str, Manifest]:
    """Return the pods that parse selections, the dedicated ones included."""
    deployments = objects(values, "Deployment")
    names = ("servicex", "servicex-controller", "servicex-transformer")
    templates = {
        name: deployments[NAMESPACE, f"{RELEASE}-{name}"]["spec"]["template"] for name in names
    }
    content = objects(values, "ConfigMap")[NAMESPACE, f"{RELEASE}-servicex"]["data"]
    return {**templates, "dedicated": yaml.safe_load(content["transformer.yaml"])}


def settings(values: Manifest) -> Settings:
    content = objects(values, "ConfigMap")[NAMESPACE, f"{RELEASE}-servicex"]["data"]
    return Settings.model_validate(yaml.safe_load(content["servicex.yaml"]))


def test_the_text_is_where_each_pod_looks_for_it() -> None:
    added = values(columns={"source": TOY.read_text()})
    maps = {where: each["data"] for where, each in objects(added, "ConfigMap").items()}
    own = settings(added).dedicated_pods.namespace
    assert own != NAMESPACE
    for namespace in (NAMESPACE, own):
        assert maps[namespace, NAME] == {"columns.py": TOY.read_text()}
    assert settings(added).codegens == ["columns", "python", "uproot", "uproot-raw"]
    assert str(settings(added).codegens_folder) == FOLDER
    for name, pod in pods(added).items():
        assert {"name": "codegens", "configMap": {"name": NAME}} in pod["spec"]["volumes"], name
        containers = pod["spec"]["containers"] + pod["spec"].get("initContainers", [])
        for container in containers:
            mount = {"name": "codegens", "mountPath": FOLDER, "readOnly": True}
            assert mount in container["volumeMounts"], name
            if "transformer" in container["args"]:
                assert f"--codegens={FOLDER}" in container["args"]


def test_without_one_there_is_no_such_volume() -> None:
    assert NAME not in {name for _, name in objects({}, "ConfigMap")}
    assert settings({}).codegens_folder is None
    assert "codegens" not in json.dumps([pod["spec"] for pod in pods({}).values()])


def test_pods_start_again_with_another_text() -> None:
    def checksums(text: str) -> dict[str, Any]:
        rendered = pods(values(columns={"source": text}))
        del rendered["dedicated"]  # each is new
        return {
            name: pod["metadata"]["annotations"]["checksum/codegens"]
            for name, pod in rendered.items()
        }

    first, second = checksums("1\n"), checksums("2\n")
    assert first == checksums("1\n")
    assert not [name for name in first if first[name] == second[name]]


def test_one_that_is_switched_off_is_not_there() -> None:
    off = values(columns={"source": "text", "enabled": False}, python={"enabled": False})
    assert settings(off).codegens == ["uproot", "uproot-raw"]
    assert NAME not in {name for _, name in objects(off, "ConfigMap")}


@pytest.mark.parametrize(
    ("codegens", "message"),
    [
        ({"colums": {"enabled": True}}, "source"),
        ({"columns": {"source": ""}}, "source"),
        ({"columns": {"source": "text", "image": "x"}}, "image"),
        ({"uproot": {"source": "text"}}, "source"),
        ({"Columns_2": {"source": "text"}}, "lower-case letters, digits and hyphens"),
    ],
)
def test_a_value_that_adds_none_is_refused_by_its_key(codegens: Any, message: str) -> None:
    with pytest.raises(HelmError, match=message) as caught:
        template("coffea-shoppe", values(**codegens))
    assert "codeGen" in str(caught.value)
