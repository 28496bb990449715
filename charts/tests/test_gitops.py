"""Charts that are rendered without the cluster, as Argo CD does: the same bytes each time."""

import json
from typing import Any

import pytest
from rendering import (
    ALONE,
    CHARTS,
    HelmError,
    Manifest,
    generated_secrets,
    merged,
    pod_specs,
    template,
)
from test_existing_secrets import VALUES

GITOPS: Manifest = merged({"global": {"generateSecrets": False}}, VALUES)
"""Values that name all Secrets, and let no chart generate one."""


def of_kind(manifests: list[Manifest], kind: str) -> list[Manifest]:
    return [m for m in manifests if m["kind"] == kind]


def test_two_renderings_are_the_same() -> None:
    values = {"postgresql": {"backup": {"always": True}}}
    first, second = (template("coffea-shoppe", values, again=True) for _ in range(2))
    assert json.dumps(first) == json.dumps(second)
    assert generated_secrets(first)


def test_no_template_reads_a_secret_of_the_cluster() -> None:
    templates = [
        path for path in CHARTS.glob("*/templates/**/*") if path.suffix in (".yaml", ".tpl")
    ]
    assert templates
    assert not [path for path in templates if 'lookup "v1" "Secret"' in path.read_text()]


def test_values_that_name_all_secrets_need_no_job() -> None:
    manifests = template("coffea-shoppe", GITOPS)
    assert not generated_secrets(manifests)
    names = [job["metadata"]["name"] for job in of_kind(manifests, "Job")]
    assert "shoppe-secrets" not in names


def test_the_job_may_create_secrets_and_read_those_it_creates() -> None:
    manifests = template("coffea-shoppe")
    (job,) = (m for m in of_kind(manifests, "Job") if m["metadata"]["name"] == "shoppe-secrets")
    account = job["spec"]["template"]["spec"]["serviceAccountName"]
    (binding,) = (
        m
        for m in [*of_kind(manifests, "RoleBinding"), *of_kind(manifests, "ClusterRoleBinding")]
        if account in [subject["name"] for subject in m["subjects"]]
    )
    (role,) = (
        m for m in of_kind(manifests, "Role") if m["metadata"]["name"] == binding["roleRef"]["name"]
    )
    create, named = role["rules"]
    assert (create["resources"], create["verbs"]) == (["secrets"], ["create"])
    assert set(named["verbs"]) == {"get", "patch"}
    assert set(named["resourceNames"]) == set(generated_secrets(manifests))
    # Argo CD runs them as PreSync; all are gone after the job.
    for manifest in (job, binding, role):
        hook = manifest["metadata"]["annotations"]
        assert hook["helm.sh/hook"] == "pre-install,pre-upgrade"
        assert hook["helm.sh/hook-delete-policy"] == "before-hook-creation,hook-succeeded"
    weights = [int(m["metadata"]["annotations"]["helm.sh/hook-weight"]) for m in (role, job)]
    assert weights == sorted(set(weights))


def without(values: Manifest, path: str) -> Manifest:
    """Return values without the key at a dotted path."""
    key, _, rest = path.partition(".")
    if rest:
        return {**values, key: without(values[key], rest)}
    return {name: value for name, value in values.items() if name != key}


SECRETS = [
    "global.services.jupyterhub.existingSecret",
    "global.services.objectstore.existingSecret",
    "global.services.postgresql.existingSecrets.mlflow",
    "global.services.postgresql.existingSecrets.servicex",
    "mlflow.existingSecret",
    "servicex.existingSecret",
]


def test_each_secret_that_values_do_not_name_is_refused_by_its_key() -> None:
    values = GITOPS
    for key in SECRETS:
        values = without(values, key)
    with pytest.raises(HelmError) as refused:
        template("coffea-shoppe", values)
    text = str(refused.value)
    for key in SECRETS:
        assert f"global.generateSecrets is false, but {key} is empty: set it to a Secret" in text
    assert text.count("global.generateSecrets is false") == len(SECRETS)


def test_a_gateway_with_a_password_needs_its_secret() -> None:
    simple: Any = {"auth": {"type": "simple"}}
    values = merged(GITOPS, {"dask-gateway": {"gateway": simple}})
    with pytest.raises(HelmError, match=r"auth\.simple\.passwordFromSecretName is empty"):
        template("coffea-shoppe", values)
    simple["auth"]["simple"] = {"passwordFromSecretName": "mine"}
    assert not generated_secrets(template("coffea-shoppe", values))


@pytest.mark.parametrize(
    ("chart", "existing"),
    [
        ("mlflow", {"existingSecret": "mine"}),
        ("servicex", {"existingSecret": "mine"}),
        ("objectstore", {"existingSecret": "mine"}),
        ("postgresql", {"existingSecrets": {"any": "mine"}}),
    ],
)
def test_a_chart_alone_names_its_own_key(chart: str, existing: Manifest) -> None:
    values = {**ALONE[chart], "global": {"generateSecrets": False}}
    key = next(iter(existing))
    with pytest.raises(HelmError, match=rf"generateSecrets is false, but {chart}\.{key}"):
        template(chart, values)
    assert not generated_secrets(template(chart, {**values, **existing}))


def test_the_dump_before_a_sync_is_in_the_output_where_values_ask_for_it() -> None:
    names = [job["metadata"]["name"] for job in of_kind(template("coffea-shoppe"), "Job")]
    assert names
    assert "shoppe-postgresql-backup" not in names
    values = merged(GITOPS, {"postgresql": {"backup": {"always": True}}})
    (dump,) = (
        job
        for job in of_kind(template("coffea-shoppe", values), "Job")
        if job["metadata"]["name"] == "shoppe-postgresql-backup"
    )
    # Argo CD runs it as PreSync, before a Secret names a database that is not there yet.
    (generating,) = (
        job
        for job in of_kind(
            template("coffea-shoppe", {"postgresql": {"backup": {"always": True}}}), "Job"
        )
        if job["metadata"]["name"] == "shoppe-secrets"
    )
    weights = [
        int(job["metadata"]["annotations"]["helm.sh/hook-weight"]) for job in (dump, generating)
    ]
    assert weights == sorted(set(weights))
    assert dump["metadata"]["annotations"]["helm.sh/hook"] == "pre-upgrade"
    assert "before-hook-creation" in dump["metadata"]["annotations"]["helm.sh/hook-delete-policy"]
    off = merged(values, {"postgresql": {"backup": {"enabled": False}}})
    names = [job["metadata"]["name"] for job in of_kind(template("coffea-shoppe", off), "Job")]
    assert "shoppe-postgresql-backup" not in names


def test_who_scales_a_deployment_is_not_overruled_by_a_sync() -> None:
    scaled = {"shoppe-servicex-transformer", "shoppe-triton"}
    values = merged(GITOPS, {"triton": {"autoscaling": {"enabled": True}}})
    free = {
        m["metadata"]["name"]
        for m in of_kind(template("coffea-shoppe", values), "Deployment")
        if "replicas" not in m["spec"]
    }
    assert free == scaled
    fixed = {"servicex": {"transformer": {"autoscaler": {"enabled": False, "minReplicas": 2}}}}
    (transformer,) = (
        m
        for m in of_kind(template("coffea-shoppe", merged(GITOPS, fixed)), "Deployment")
        if m["metadata"]["name"] == "shoppe-servicex-transformer"
    )
    assert transformer["spec"]["replicas"] == 2


def test_objects_of_another_namespace_say_so_and_their_namespace_comes_first() -> None:
    manifests = template("coffea-shoppe", GITOPS)
    (namespace,) = of_kind(manifests, "Namespace")
    name = namespace["metadata"]["name"]
    assert name == "facility-dask"
    others = [m for m in manifests if m["metadata"].get("namespace") == name]
    assert manifests.index(namespace) < min(manifests.index(m) for m in others)
    assert [spec for _, _, spec in pod_specs(others)]
