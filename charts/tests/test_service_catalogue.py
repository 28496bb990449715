"""What the release has is said once: whatever is switched off, nothing names what is not there."""

from collections.abc import Set
from functools import reduce
from itertools import combinations
from typing import Any

import pytest
import yaml
from references import Release
from rendering import CHARTS, NAMESPACE, RELEASE, HelmError, Manifest, template
from shoppe_ci import catalogue

SERVICES = tuple(catalogue.services())
LAPTOP: Manifest = {
    "dask-gateway": {"gateway": {"auth": {"type": "simple"}}},
    "mlflow": {"auth": {"enabled": False}, "backendStore": {"existingDatabaseSecret": ""}},
    "servicex": {"app": {"auth": False}, "postgres": {"existingDatabaseSecret": "of-the-site"}},
}
"""Values with which services need less of one another."""


def merged(*parts: Manifest) -> Manifest:
    """Return values on top of one another, as Helm takes several files."""

    def over(below: Manifest, above: Manifest) -> Manifest:
        both = {**below, **above}
        for key in below.keys() & above.keys():
            if isinstance(below[key], dict) and isinstance(above[key], dict):
                both[key] = over(below[key], above[key])
        return both

    return reduce(over, parts, {})


def services(rows: Manifest) -> Manifest:
    """Return values that say this of services."""
    return {"global": {"services": rows}}


def switched_off(off: Set[str]) -> Manifest:
    """Return values that switch services off."""
    return services({service: {"enabled": False} for service in sorted(off)})


def conflicts(off: Set[str], *, laptop: bool) -> bool:
    """Return whether a service is on that cannot be without one that is off."""
    on = set(SERVICES) - off
    needs = {"triton": {"mlflow", "objectstore", "operator"}}
    if not laptop:
        tracked = {"operator", "postgresql"}
        needs |= {"dask-gateway": {"jupyterhub"}, "mlflow": tracked, "servicex": tracked}
    return any(needs.get(service, set()) & off for service in on)


def check(off: Set[str], *, laptop: bool) -> list[str]:
    """Return what is wrong with the rendering where these services are off."""
    values = merged(LAPTOP if laptop else {}, switched_off(off))
    try:
        release = Release(template("coffea-shoppe", values))
    except HelmError as error:
        reasons = [line for line in str(error).splitlines() if line.startswith("  - ")]
        unnamed = [line for line in reasons if "global.services." not in line]
        if conflicts(off, laptop=laptop) and reasons and not unnamed:
            return []
        return [f"refused: {error}"]
    if conflicts(off, laptop=laptop):
        return ["accepted, and cannot work"]
    present = {m["metadata"]["labels"]["app.kubernetes.io/name"] for m in release.manifests}
    dangling = [name for name in release.dangling() if "Secret of-the-site" not in name]
    # The umbrella's own job creates Secrets.
    return dangling + sorted((present - {"coffea-shoppe"}) ^ (set(SERVICES) - off))


ALONE = [(service,) for service in SERVICES]
PAIRS = list(combinations(SERVICES, 2))


@pytest.mark.parametrize("off", [(), *ALONE, *PAIRS], ids="+".join)
def test_what_is_switched_off_by_one_key_leaves_nothing_behind(off: tuple[str, ...]) -> None:
    assert check(set(off), laptop=False) == []


@pytest.mark.parametrize("laptop", [False, True])
@pytest.mark.parametrize("on", [(), *ALONE], ids="+".join)
def test_what_is_alone_names_nothing_else(on: tuple[str, ...], laptop: bool) -> None:
    assert check(set(SERVICES) - set(on), laptop=laptop) == []


@pytest.mark.part("properties")
@pytest.mark.parametrize("laptop", [False, True])
@pytest.mark.parametrize("count", range(len(SERVICES) + 1))
def test_every_combination_renders_or_is_refused_by_name(count: int, laptop: bool) -> None:
    for off in combinations(SERVICES, count):
        assert check(set(off), laptop=laptop) == [], off


def environments(values: Manifest) -> list[dict[str, str]]:
    """Return the environment of notebooks, Dask pods and users' functions."""
    release = Release(template("coffea-shoppe", values))
    function = release.settings("servicex", "transformer.yaml")["spec"]["containers"][0]
    hub = release.settings("hub", "settings.yaml")
    return [
        hub["environment"] | hub["values"]["singleuser"]["extraEnv"],
        release.settings("gateway", "settings.yaml")["environment"],
        {variable["name"]: variable["value"] for variable in function["env"]},
    ]


OWN = {
    "DASK_GATEWAY__ADDRESS",
    "DASK_GATEWAY__CLUSTER__OPTIONS__IMAGE",
    "DASK_GATEWAY__AUTH__TYPE",
    "DASK_GATEWAY__PROXY_ADDRESS",
    "HOME",
}
"""What notebooks alone need, and what is the transformer's own."""


def test_one_value_is_the_environment_of_all_that_runs_users_code() -> None:
    changed = {"MLFLOW_EXPERIMENT_NAME": "ours", "SITE": "{{ .Release.Name }}", "EMPTY": ""}
    for environment in environments({"global": {"environment": changed}}):
        assert environment["MLFLOW_EXPERIMENT_NAME"] == "ours"
        assert environment["SITE"] == RELEASE
        assert environment["EMPTY"] == ""
        assert environment["MLFLOW_TRACKING_URI"] == f"http://{RELEASE}-mlflow.{NAMESPACE}:5000"
    notebook, dask, function = (
        {name: value for name, value in environment.items() if name not in OWN}
        for environment in environments({})
    )
    assert notebook == dask == function


def test_what_a_component_says_itself_comes_on_top_there_alone() -> None:
    own = {"MLFLOW_EXPERIMENT_NAME": "notebooks"}
    notebook, dask, function = environments({"jupyterhub": {"singleuser": {"extraEnv": own}}})
    assert notebook["MLFLOW_EXPERIMENT_NAME"] == "notebooks"
    assert dask["MLFLOW_EXPERIMENT_NAME"] == function["MLFLOW_EXPERIMENT_NAME"] == "default"


def test_without_mlflow_there_is_nothing_of_it() -> None:
    values = switched_off({"mlflow", "triton"})
    for environment in environments(values):
        assert not [name for name in environment if name.startswith("MLFLOW")]
        assert "SHOPPE_XCACHE" in environment
    release = Release(template("coffea-shoppe", values))
    settings = release.settings("operator", "operator.yaml")
    buckets = settings["objectStore"]["services"]
    assert "servicex" in buckets
    assert not {"mlflow", "triton"} & {*settings, *settings["connections"], *buckets}
    assert not release.has("Secret", NAMESPACE, f"{RELEASE}-postgresql-mlflow")
    assert release.has("Secret", NAMESPACE, f"{RELEASE}-postgresql-servicex")


def settings_with(rows: Manifest, *more: Manifest) -> tuple[Manifest, Release]:
    """Return the operator's settings, and the release, with these rows of services."""
    release = Release(template("coffea-shoppe", merged(services(rows), *more)))
    return release.settings("operator", "operator.yaml"), release


def test_users_get_the_address_of_an_external_servicex() -> None:
    issuer = f"coffea-shoppe:{NAMESPACE}:{RELEASE}"
    row = {"enabled": False, "url": "https://sx.example/", "issuer": issuer}
    settings, release = settings_with({"servicex": row})
    assert settings["connections"]["servicex"] == "https://sx.example"
    assert "servicex" not in {*settings, *settings["objectStore"]["services"]}
    assert settings["objectStore"]["writers"] == []
    assert release.dangling() == []
    assert "servicex" not in release.settings("hub", "settings.yaml")["values"]["hub"]["services"]


@pytest.mark.parametrize(("token", "workspaces"), [("facility", True), ("none", False)])
def test_an_external_mlflow_accepts_the_facilitys_tokens_or_none(
    token: str, workspaces: bool
) -> None:
    rows = {
        "mlflow": {"enabled": False, "url": "https://mlflow.example", "token": token},
        "triton": {"enabled": workspaces},
    }
    settings, release = settings_with(rows)
    assert settings["connections"]["mlflow"] == "https://mlflow.example"
    assert ("mlflow" in settings) is workspaces
    for environment in environments(services(rows)):
        assert environment["MLFLOW_TRACKING_URI"] == "https://mlflow.example"
        assert ("MLFLOW_TRACKING_AUTH" in environment) is workspaces
    assert release.dangling() == []


def test_an_external_store_with_accounts_replaces_the_releases() -> None:
    url, admin = "https://s3.example", "https://s3.example:7080"
    row = {"enabled": False, "url": url, "adminUrl": admin, "existingSecret": "root"}
    settings, release = settings_with({"objectstore": row})
    store = settings["objectStore"]
    assert (store["endpoint"], store["adminEndpoint"]) == (url, admin)
    assert settings["connections"]["s3"] == url
    assert release.settings("servicex", "servicex.yaml")["objects"]["endpoint"] == url
    assert release.dangling() == [f"{RELEASE}-operator: Secret root"]


def test_one_external_bucket_is_for_all() -> None:
    row = {"enabled": False, "url": "https://s3.example", "bucket": "site", "existingSecret": "k"}
    rows = {"objectstore": row, "triton": {"enabled": False}}
    settings, release = settings_with(rows)
    assert "objectStore" not in settings
    assert "s3" not in settings["connections"]
    objects = release.settings("servicex", "servicex.yaml")["objects"]
    assert (objects["endpoint"], objects["bucket"]) == ("https://s3.example", "site")
    mlflow = release.objects["Deployment", NAMESPACE, f"{RELEASE}-mlflow"]
    assert "--artifacts-destination=s3://site/service-mlflow" in str(mlflow)
    dangling = set(release.dangling())
    assert {problem.partition(": ")[2] for problem in dangling} == {"Secret k"}
    names = ("mlflow", "servicex", "servicex-controller")
    assert {f"{RELEASE}-{name}: Secret k" for name in names} <= dangling
    assert not [
        name
        for environment in environments(services(rows))
        for name in environment
        if name.startswith("AWS_")
    ]


def test_users_and_servicex_read_through_an_external_cache() -> None:
    row = {"enabled": False, "url": "root://cache.example:1094"}
    settings, release = settings_with({"xcache": row})
    assert settings["connections"]["xcache"] == "root://cache.example:1094"
    servicex = release.settings("servicex", "servicex.yaml")
    assert servicex["cachePrefix"] == "xcache=root://cache.example:1094"
    for environment in environments(services({"xcache": row})):
        assert environment["SHOPPE_XCACHE"] == "xcache=root://cache.example:1094"


def test_servicex_reads_through_all_caches_of_users() -> None:
    caches = "xcache=root://a:1094,cms=root://b:1094?origin=cms.example:1094"
    instances = [{"name": "xcache", "preset": "atlas"}, {"name": "cms", "preset": "cms"}]
    environment = {"SHOPPE_XCACHE": caches}
    values = {"xcache": {"instances": instances}, "global": {"environment": environment}}
    release = Release(template("coffea-shoppe", values))
    assert release.settings("servicex", "servicex.yaml")["cachePrefix"] == caches


def test_the_hubs_own_secret_is_one_for_all_that_read_it() -> None:
    _, release = settings_with({"jupyterhub": {"existingSecret": "mine"}})
    assert not release.has("Secret", NAMESPACE, f"{RELEASE}-hub")
    assert set(release.dangling()) == {
        f"{RELEASE}-{name}: Secret mine" for name in ("hub", "proxy", "dask-gateway", "api")
    }


def test_the_namespace_of_dask_clusters_is_one_for_all() -> None:
    settings, release = settings_with({"dask-gateway": {"namespace": "{{ .Release.Namespace }}-x"}})
    own = f"{NAMESPACE}-x"
    assert settings["dask"]["pods"]["namespace"] == own
    assert settings["userNamespaces"] == [NAMESPACE, own]
    assert release.settings("servicex", "servicex.yaml")["dedicatedPods"]["namespace"] == own
    assert own in release.settings("hub", "settings.yaml")["environment"]["DASK_GATEWAY__ADDRESS"]
    assert not [m for m in release.manifests if release.namespace(m) == f"{NAMESPACE}-dask"]


def test_the_issuer_is_one_for_all() -> None:
    settings, release = settings_with({"operator": {"issuer": "site"}})
    assert settings["issuer"] == "site"
    assert release.settings("servicex", "servicex.yaml")["auth"]["issuer"] == "site"
    assert "issuer = site" in release.text("mlflow", "auth.ini")
    triton = release.objects["Deployment", NAMESPACE, f"{RELEASE}-triton"]
    assert "--issuer=site" in str(triton)


def test_the_catalogue_says_what_there_is() -> None:
    """Each service is a chart with a switch, and its addresses lead to its ports."""
    chart = yaml.safe_load((CHARTS / "coffea-shoppe" / "Chart.yaml").read_text())
    switches = {
        entry["name"]: entry["condition"]
        for entry in chart["dependencies"]
        if entry["name"] != "shoppe-lib"
    }
    assert switches == {name: f"global.services.{name}.enabled" for name in SERVICES}
    release = Release(template("coffea-shoppe"))
    for row in catalogue.services().values():
        namespace = f"{NAMESPACE}{row.get('namespace', '')}"
        for address in row["addresses"].values():
            service = release.objects["Service", namespace, f"{RELEASE}-{row['suffix']}"]
            assert address["port"] in [port["port"] for port in service["spec"]["ports"]]


def names_of(release: str) -> Any:
    """Return what is wrong with the names of a release, and its longest name."""
    manifests = template("coffea-shoppe", release=release)
    keys = [(m["kind"], m["metadata"].get("namespace"), m["metadata"]["name"]) for m in manifests]
    twice = sorted({key for key in keys if keys.count(key) > 1})
    labels = (m["metadata"]["name"] for m in manifests if not m["kind"].startswith("Cluster"))
    long = [name for name in labels if len(name) > 63]
    return [*Release(manifests).dangling(), *twice, *long]


@pytest.mark.parametrize("length", [1, 30, 33, 36, 42, 49, 53])
def test_a_release_of_any_length_finds_itself(length: int) -> None:
    assert names_of("r" * length) == []


@pytest.mark.part("properties")
@pytest.mark.parametrize("length", range(1, 54))
def test_so_does_one_of_every_length(length: int) -> None:
    assert names_of(("r" * 9 + "-" + "x" * 52)[:length].rstrip("-")) == []


@pytest.mark.parametrize("release", ["a.b", "1a"])
def test_a_release_whose_name_no_service_can_have_is_refused(release: str) -> None:
    with pytest.raises(HelmError, match="use lower-case letters, digits and hyphens"):
        template("xcache", release=release)


def test_names_that_are_cut_differ() -> None:
    first, second = (
        template("xcache", release="r" * 45 + ending)[0]["metadata"]["name"] for ending in "ab"
    )
    assert first != second
    assert len(first) <= 52
