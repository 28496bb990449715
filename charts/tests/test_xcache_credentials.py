from typing import Any

import pytest
from rendering import HelmError

FIXED = {"name": "cms", "preset": "cms"}


def pod(render: Any, **instance: Any) -> dict[str, Any]:
    manifests = render("xcache", {"instances": [{**FIXED, **instance}]})
    sets = [m for m in manifests if m["kind"] == "StatefulSet"]
    spec: dict[str, Any] = sets[0]["spec"]["template"]["spec"]
    return spec


PROXY = {"secret": "grid", "kind": "proxy", "certificates": "grid-cas"}
TOKEN = {**PROXY, "kind": "token"}


def container(spec: dict[str, Any], name: str) -> dict[str, Any]:
    return next(c for c in containers(spec) if c["name"] == name)


def containers(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return [*spec.get("initContainers", []), *spec["containers"]]


def mounted(spec: dict[str, Any], volume: str) -> dict[str, bool]:
    """Which containers mount a volume, and whether they only read it."""
    return {
        c["name"]: mount.get("readOnly", False)
        for c in containers(spec)
        for mount in c.get("volumeMounts", [])
        if mount["name"] == volume
    }


@pytest.mark.parametrize(
    ("kind", "variable"), [("proxy", "X509_USER_PROXY"), ("token", "BEARER_TOKEN_FILE")]
)
def test_the_cache_knows_where_its_credential_is(render: Any, kind: str, variable: str) -> None:
    spec = pod(render, credentials={**PROXY, "kind": kind})
    environment = {e["name"]: e["value"] for e in container(spec, "xcache")["env"]}
    assert environment[variable] == f"/run/credentials/{kind}"
    for name in ("XrdSecGSIDELEGPROXY", "XrdSecGSISIGNPROXY", "XrdSecGSITRUSTDNS"):
        assert environment[name] == "0"
    args = container(spec, "credentials")["args"]
    assert f"--target={environment[variable]}" in args
    assert "--origin=cmsxrootd.fnal.gov:1094" in args
    (first,) = spec["initContainers"]
    assert first["args"] == [*args, "--once"]


def test_only_the_cache_and_what_renews_it_see_a_credential(render: Any) -> None:
    spec = pod(render, credentials=PROXY)
    both = {"first-credentials", "credentials"}
    assert mounted(spec, "secret") == dict.fromkeys(both, True)
    assert mounted(spec, "credentials") == {**dict.fromkeys(both, False), "xcache": True}
    assert mounted(spec, "credential-end") == {**dict.fromkeys(both, False), "exporter": True}
    volumes = {v["name"]: v for v in spec["volumes"]}
    assert volumes["credentials"]["emptyDir"]["medium"] == "Memory"
    items = [{"key": "proxy", "path": "proxy"}]
    assert volumes["secret"]["secret"] == {"secretName": "grid", "items": items}


def test_own_certificate_authorities_are_trusted(render: Any) -> None:
    spec = pod(render, credentials=PROXY)
    environment = {e["name"]: e["value"] for e in container(spec, "xcache")["env"]}
    (mount,) = [m for m in container(spec, "xcache")["volumeMounts"] if m["name"] == "certificates"]
    assert environment["X509_CERT_DIR"] == mount["mountPath"]
    volumes = {v["name"]: v for v in spec["volumes"]}
    assert volumes["certificates"]["configMap"] == {"name": "grid-cas"}


def test_a_cache_without_credentials_has_nothing_of_them(render: Any) -> None:
    spec = pod(render)
    assert [c["name"] for c in spec["containers"]] == ["xcache", "probe-origin", "exporter"]
    assert [v["name"] for v in spec["volumes"]] == ["config", "tmp", "cache"]


def test_a_forwarding_cache_sends_its_token_to_nobody(render: Any) -> None:
    with pytest.raises(HelmError) as refused:
        pod(render, preset="atlas", credentials=TOKEN)
    assert "xcache.instances[0] (cms): credentials.kind is token" in str(refused.value)
    assert "set the preset to generic, with an origin" in str(refused.value)
    # A proxy proves possession of its key, and does not leave the cache.
    assert pod(render, preset="atlas", credentials=PROXY)


def test_authorities_are_named(render: Any) -> None:
    with pytest.raises(HelmError, match=r"missing propert.*certificates|certificates is required"):
        pod(render, credentials={"secret": "grid", "kind": "proxy"})


@pytest.mark.parametrize(
    ("keys", "remedy"),
    [
        ({"Service": {"type": "NodePort"}}, "xcache.Service.type NodePort would lend them"),
        ({"networkPolicy": {"enabled": False}}, "set xcache.networkPolicy.enabled to true"),
    ],
)
def test_a_credential_is_lent_to_nobody_else(
    render: Any, keys: dict[str, Any], remedy: str
) -> None:
    with pytest.raises(HelmError, match=remedy):
        render("xcache", {"instances": [{**FIXED, "credentials": PROXY}], **keys})
    assert render("xcache", {"instances": [FIXED], **keys})
