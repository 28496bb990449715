"""What values keep secret is in Secrets, and no message of Helm shows it."""

import base64
import json
from typing import Any

import pytest
import yaml
from rendering import (
    ALONE,
    HelmError,
    Manifest,
    files,
    generated_secrets,
    settings_of,
    template,
)

MARK = "only-for-the-hub"
HUB: dict[str, Any] = {
    "hub": {
        "config": {
            "GitHubOAuthenticator": {"client_secret": f"{MARK}-1"},
            "CryptKeeper": {"keys": ["ab" * 32, "cd" * 32]},
            "JupyterHub": {"cookie_secret": "ef" * 32, "authenticator_class": "github"},
        },
        "db": {"type": "postgres", "url": f"postgresql://hub:{MARK}-2@db/hub", "password": MARK},
        "services": {
            "a": {"url": "http://a", "apiToken": f"{MARK}-3"},
            "b": {"url": "http://b", "api_token": f"{MARK}-4"},
        },
        "extraConfig": {"own": f"c.OAuthenticator.token = '{MARK}-5'"},
        "extraFiles": {"key.pem": {"mountPath": "/etc/key.pem", "stringData": f"{MARK}-6"}},
    },
    "proxy": {
        "secretToken": f"{MARK}-7",
        "https": {"enabled": True, "type": "manual", "manual": {"key": f"{MARK}-8", "cert": "c"}},
    },
    "singleuser": {"extraFiles": {"k": {"mountPath": "/k.json", "data": {"token": f"{MARK}-9"}}}},
    "imagePullSecret": {"create": True, "registry": "r", "username": "u", "password": f"{MARK}-10"},
    "custom": {"token": f"{MARK}-11"},
}
GATEWAY: dict[str, Any] = {
    "gateway": {
        "auth": {"type": "simple", "simple": {"password": f"{MARK}-1"}},
        "extraConfig": f"c.Own.token = '{MARK}-2'",
    }
}


def named(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    (manifest,) = (m for m in manifests if (m["kind"], m["metadata"]["name"]) == (kind, name))
    return manifest


def without_secrets(manifests: list[Manifest]) -> str:
    return json.dumps([m for m in manifests if m["kind"] != "Secret"])


@pytest.mark.parametrize(("chart", "values"), [("jupyterhub", HUB), ("dask-gateway", GATEWAY)])
def test_secrets_in_values_are_in_secrets_alone(chart: str, values: Any) -> None:
    manifests = template(chart, {**ALONE[chart], **values})
    rendered = without_secrets(manifests)
    # All of the values are somewhere, and only in Secrets.
    kept = "".join(text for m in manifests if m["kind"] == "Secret" for text in files(m).values())
    assert MARK in kept
    for text in (MARK, "ab" * 32, "ef" * 32):
        assert text not in rendered
        assert base64.b64encode(text.encode()).decode() not in rendered


def test_tokens_in_values_are_those_of_the_hub_s_secret() -> None:
    keys = generated_secrets(template("jupyterhub", HUB))["shoppe-hub"]
    values = {key: rule.get("value") for key, rule in keys.items()}
    assert values["hub.services.a.apiToken"] == f"{MARK}-3"
    assert values["hub.services.b.apiToken"] == f"{MARK}-4"
    assert values["hub.config.ConfigurableHTTPProxy.auth_token"] == f"{MARK}-7"
    assert values["hub.config.JupyterHub.cookie_secret"] == "ef" * 32
    assert values["hub.config.CryptKeeper.keys"] == f"{'ab' * 32};{'cd' * 32}"


def test_files_are_written_by_their_ending() -> None:
    def of(values: Manifest) -> dict[str, str]:
        manifests = template("jupyterhub", {"singleuser": {"extraFiles": values}})
        (secret,) = (
            m
            for m in manifests
            if m["metadata"]["name"] == "shoppe-singleuser" and m["kind"] == "Secret"
        )
        return files(secret)

    content = {"a": {"b": 1}}
    written = of(
        {
            "j": {"mountPath": "/a.json", "data": content},
            "y": {"mountPath": "/a.yaml", "data": content},
            "t": {"mountPath": "/a.toml", "data": content},
            "b": {"mountPath": "/a.bin", "binaryData": base64.b64encode(b"bytes").decode()},
            "s": {"mountPath": "/a.txt", "stringData": "{{ text }}"},
        }
    )
    assert json.loads(written["j"]) == yaml.safe_load(written["y"]) == content
    assert "[a]" in written["t"]
    assert (written["b"], written["s"]) == ("bytes", "{{ text }}")


def test_a_broken_template_shows_no_other_value() -> None:
    services = {**HUB["hub"]["services"], "broken": {"url": "{{ .Values.nothing.at.all }}"}}
    values = {**HUB, "hub": {**HUB["hub"], "services": services}}
    with pytest.raises(HelmError) as refused:
        template("jupyterhub", values)
    assert MARK not in str(refused.value)
    assert template("jupyterhub", HUB)


BRACES = {
    "jinja": "{% if user %}{{ user.name }}{% endif %}",
    "f_string": "f'{x:.2f} {{y}}'",
    "go": "{{ .Values.hub }}",
    "json": '{"a": {"b": 1}}',
}


@pytest.mark.parametrize("text", BRACES.values(), ids=list(BRACES))
def test_texts_with_braces_are_no_templates(text: str) -> None:
    hub = {
        "config": {"Own": {"text": text}},
        "extraConfig": {"own": text},
        "templateVars": {"text": text},
        "extraEnv": {"TEXT": text},
    }
    manifests = template("jupyterhub", {"hub": hub, "singleuser": {"extraEnv": {"TEXT": text}}})
    values = settings_of(manifests, "hub")["values"]
    assert values["hub"]["config"]["Own"]["text"] == text
    assert values["hub"]["extraConfig"]["own"] == text
    assert values["hub"]["templateVars"]["text"] == text
    assert values["singleuser"]["extraEnv"]["TEXT"] == text
    (deployment,) = (
        m for m in manifests if m["kind"] == "Deployment" and m["metadata"]["name"] == "shoppe-hub"
    )
    (hub_container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert {"name": "TEXT", "value": text} in hub_container["env"]
    backend = {"environment": {"TEXT": text}}
    gateway = {**ALONE["dask-gateway"]["gateway"], "backend": backend, "extraConfig": text}
    values = settings_of(template("dask-gateway", {"gateway": gateway}), "gateway")["values"]
    assert values["gateway"]["backend"]["environment"]["TEXT"] == text
    assert values["gateway"]["extraConfig"] == text
