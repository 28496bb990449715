"""The preflight as a whole: from its settings to its lines, with an API server over HTTP."""

from pathlib import Path

import yaml
from coffea_shoppe_preflight import main
from coffea_shoppe_preflight.findings import Cause, verdict
from coffea_shoppe_preflight.settings import Account, Settings
from coffea_shoppe_preflight.snapshot import ApiServer
from http_server import Request, kubeconfig, serving

RULE = {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}


def settings(url: str) -> Settings:
    """Return settings with everything, all of it broken but `mlflow`."""
    return Settings(
        release="shoppe",
        namespace="hep",
        namespaces=["hep"],
        components=["mlflow", "triton", "postgresql", "objectstore", "xcache", "operator"],
        definitions=["facilityusers.coffea-shoppe.dev"],
        addresses={"mlflow": [url], "triton": ["grpc://triton.invalid:8001"]},
        databases={"mlflow": Path("/nowhere/service.conf")},
        buckets={"service-mlflow": Path("/nowhere")},
        origins=["origin.invalid:1094"],
        identity_providers=["http://idp.invalid/token"],
        external_urls=["http://facility.invalid"],
        accounts=[Account(component="operator", name="o", rules={"hep": [RULE]})],
    )


def server_at(url: str, folder: Path) -> ApiServer:
    file = folder / "kubeconfig"
    file.write_text(yaml.safe_dump(kubeconfig(url, "secret-token")))
    return ApiServer(str(file))


def test_each_kind_of_check_runs_and_names_its_component(tmp_path: Path) -> None:
    tokens = set()

    def respond(request: Request) -> tuple[int, object]:
        if not request.path.startswith("/api"):
            return 200, {}
        tokens.add(request.headers["Authorization"])
        if request.method == "POST":
            return 201, {"status": {"allowed": False}}
        if "leases" in request.path:
            return 403, {"kind": "Status"}
        return 200, {"items": []}

    with serving(respond) as url:
        findings, snapshot = main.check(settings(url), server_at(url, tmp_path), timeout=60)
    # Names that end in .invalid are not resolved; the one of every cluster may be, or not.
    by_component = [(each.component, each.cause) for each in findings if each.component != "dns"]
    assert by_component == [
        ("operator", Cause.CRD_MISSING),
        ("triton", Cause.UNKNOWN_HOST),
        ("postgresql", Cause.SECRET_MISSING),
        ("objectstore", Cause.SECRET_MISSING),
        ("xcache", Cause.WRONG_ORIGIN),
        ("identity provider", Cause.IDENTITY_PROVIDER),
        ("external address", Cause.WRONG_URL),
        ("operator", Cause.RIGHT_MISSING),
    ]
    assert tokens == {"Bearer secret-token"}
    assert "HTTP status 403" in snapshot.unread["leases"]


def test_without_the_api_server_the_services_are_connected_to(tmp_path: Path) -> None:
    with serving(lambda request: (200, {})) as url:
        server = server_at("http://127.0.0.1:9", tmp_path)
        findings, snapshot = main.check(settings(url), server, timeout=60)
    assert not [line for line in verdict(["mlflow"], findings, snapshot.unread) if "works" in line]
    first, *others = (each for each in findings if each.component != "dns")
    assert (first.component, first.cause) == ("API server", Cause.API_SERVER)
    named = {each.component for each in others}
    assert named >= {"triton", "postgresql", "objectstore", "xcache"}
    assert not named & {"mlflow", "operator", "API server"}


def test_an_api_server_that_refuses_the_account_is_said(tmp_path: Path) -> None:
    with serving(lambda request: (401 if request.path.startswith("/api") else 200, {})) as url:
        findings, _ = main.check(settings(url), server_at(url, tmp_path), timeout=60)
    assert (findings[0].component, findings[0].cause) == ("API server", Cause.API_SERVER)
    assert "HTTP status 401" in findings[0].detail


def test_the_verdict_names_what_is_there() -> None:
    names = main.components(settings("http://x"))
    assert names[-3:] == ["dns", "identity provider", "external address"]
    alone = settings("http://x").model_copy(update={"identity_providers": [], "external_urls": []})
    assert main.components(alone)[-1] == "dns"
