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
VOMSES = '"cms" "voms-cms-auth.cern.ch" "443" "/DC=ch/DC=cern/CN=cms-auth.web.cern.ch" "cms"'
ROBOT: dict[str, Any] = {
    **PROXY,
    "kind": "robot",
    "voms": {"attributes": ["cms:/cms/Role=production"], "servers": [VOMSES]},
}
CLIENT: dict[str, Any] = {
    **PROXY,
    "kind": "client",
    "client": {
        "issuer": "https://iam.example.org/",
        "scopes": ["storage.read:/"],
        "audience": "https://wlcg.cern.ch/jwt/v1/any",
    },
}


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
    ("credentials", "variable"),
    [
        (PROXY, "X509_USER_PROXY"),
        (ROBOT, "X509_USER_PROXY"),
        (TOKEN, "BEARER_TOKEN_FILE"),
        (CLIENT, "BEARER_TOKEN_FILE"),
    ],
)
def test_the_cache_knows_where_its_credential_is(
    render: Any, credentials: dict[str, Any], variable: str
) -> None:
    spec = pod(render, credentials=credentials)
    environment = {e["name"]: e["value"] for e in container(spec, "xcache")["env"]}
    assert environment[variable] == "/run/credentials/credential"
    assert len({"X509_USER_PROXY", "BEARER_TOKEN_FILE"} & environment.keys()) == 1
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
    assert mounted(spec, "credential-state") == {**dict.fromkeys(both, False), "exporter": True}
    volumes = {v["name"]: v for v in spec["volumes"]}
    assert volumes["credentials"]["emptyDir"]["medium"] == "Memory"
    items = [{"key": "proxy", "path": "proxy"}]
    assert volumes["secret"]["secret"] == {"secretName": "grid", "items": items}


def test_a_robot_is_asked_for_its_attributes_and_the_cache_never_sees_its_key(render: Any) -> None:
    spec = pod(render, credentials=ROBOT)
    args = container(spec, "credentials")["args"]
    assert "--voms=cms:/cms/Role=production" in args
    assert f"--vomses={VOMSES}" in args
    assert "--lifetime=24:00" in args
    both = {"first-credentials", "credentials"}
    assert mounted(spec, "robot") == dict.fromkeys(both, False)
    volumes = {v["name"]: v for v in spec["volumes"]}
    assert volumes["robot"]["emptyDir"]["medium"] == "Memory"
    keys = [item["key"] for item in volumes["secret"]["secret"]["items"]]
    assert keys == ["tls.crt", "tls.key"]
    shorter = {**ROBOT, "voms": {**ROBOT["voms"], "lifetime": "1:30"}}
    assert "--lifetime=1:30" in container(pod(render, credentials=shorter), "credentials")["args"]


def test_a_client_names_its_issuer(render: Any) -> None:
    spec = pod(render, credentials=CLIENT)
    args = container(spec, "credentials")["args"]
    assert [arg for arg in args if arg.startswith(("--issuer", "--scope", "--audience"))] == [
        "--issuer=https://iam.example.org/",
        "--scope=storage.read:/",
        "--audience=https://wlcg.cern.ch/jwt/v1/any",
    ]
    (secret,) = [v["secret"] for v in spec["volumes"] if v["name"] == "secret"]
    assert [item["key"] for item in secret["items"]] == ["client-id", "client-secret"]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"kind": "robot"}, "credentials.kind is robot, which needs credentials.voms"),
        ({"kind": "client"}, "credentials.kind is client, which needs credentials.client"),
        (
            {"voms": {"attributes": ["cms"], "servers": [VOMSES]}},
            "credentials.voms is for the kind robot, but credentials.kind is proxy",
        ),
    ],
)
def test_a_kind_has_its_own_keys(render: Any, change: dict[str, Any], problem: str) -> None:
    with pytest.raises(HelmError) as refused:
        pod(render, credentials={**PROXY, **change})
    assert problem in str(refused.value)


@pytest.mark.parametrize(
    ("credentials", "key"),
    [
        ({**ROBOT, "voms": {**ROBOT["voms"], "servers": ["voms.example.org:15000"]}}, "servers"),
        ({**ROBOT, "voms": {**ROBOT["voms"], "attributes": ["cms production"]}}, "attributes"),
        ({**ROBOT, "voms": {**ROBOT["voms"], "lifetime": "24h"}}, "lifetime"),
        ({**CLIENT, "client": {**CLIENT["client"], "issuer": "http://iam.example.org"}}, "issuer"),
        ({**CLIENT, "client": {**CLIENT["client"], "scopes": []}}, "scopes"),
    ],
)
def test_a_misspelt_key_is_named(render: Any, credentials: dict[str, Any], key: str) -> None:
    with pytest.raises(HelmError, match=key):
        pod(render, credentials=credentials)


def test_own_certificate_authorities_are_trusted(render: Any) -> None:
    spec = pod(render, credentials=PROXY)
    volumes = {v["name"]: v for v in spec["volumes"]}
    assert volumes["certificates"]["configMap"] == {"name": "grid-cas"}
    both = {"first-credentials", "credentials"}
    assert mounted(spec, "certificates") == dict.fromkeys(both, True)
    environment = {e["name"]: e["value"] for e in container(spec, "xcache")["env"]}
    args = container(spec, "credentials")["args"]
    assert f"--authorities-copy={environment['X509_CERT_DIR']}" in args


def test_a_cache_without_credentials_has_nothing_of_them(render: Any) -> None:
    spec = pod(render)
    assert [c["name"] for c in spec["containers"]] == ["xcache", "probe-origin", "exporter"]
    assert [v["name"] for v in spec["volumes"]] == ["config", "tmp", "cache"]


@pytest.mark.parametrize("credentials", [TOKEN, CLIENT])
def test_a_forwarding_cache_sends_its_token_to_nobody(
    render: Any, credentials: dict[str, Any]
) -> None:
    with pytest.raises(HelmError) as refused:
        pod(render, preset="atlas", credentials=credentials)
    kind = credentials["kind"]
    assert f"xcache.instances[0] (cms): credentials.kind is {kind}" in str(refused.value)
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
