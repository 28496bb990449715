"""Attacks on ServiceX, and on its S3 gateway."""

import json
import time
import uuid
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, urlsplit

import coffea_shoppe as shoppe
import requests
from botocore.credentials import Credentials

from lib.attacks.table import (
    OBJECT,
    Names,
    Response,
    bearer,
    call,
    changes,
    header_names,
    like,
    reads,
    s3,
    together,
)


def servicex(method: str, path: str, body: Any = None, **headers: str) -> Response:
    """Send a request to ServiceX."""
    url = f"{shoppe.connections()['servicex']}{path}"
    return call(method, url, headers=bearer("servicex") | header_names(headers), json=body)


@reads
def servicex_request(me: Names, victim: Names) -> Response:
    return servicex("GET", f"/servicex/transformation/{victim.request}")


@reads
def servicex_request_for_another(me: Names, victim: Names) -> Response:
    path = f"/servicex/transformation/{victim.request}"
    return servicex("GET", path, X_Forwarded_User=victim.user)


@reads
def servicex_requests(me: Names, victim: Names) -> Response:
    return servicex("GET", f"/servicex/transformation?user={quote(victim.user)}")


@changes
def servicex_results(me: Names, victim: Names) -> Response:
    return servicex("GET", f"/servicex/transformation/{victim.request}/results")


@changes
def servicex_log(me: Names, victim: Names) -> Response:
    return servicex("GET", f"/transformation-request/{victim.request}/log")


@reads
def servicex_page(me: Names, victim: Names) -> Response:
    return servicex("GET", f"/transformation-request/{victim.request}", Accept="text/html")


@like(servicex_request)
def servicex_request_without_a_token(me: Names, victim: Names) -> Response:
    url = f"{shoppe.connections()['servicex']}/servicex/transformation/{victim.request}"
    tokens = [{}, bearer("mlflow"), bearer("triton"), {"X-Forwarded-User": victim.user}]
    return together([call("GET", url, headers=headers) for headers in tokens])


@like(servicex_request, reads=False)
def servicex_cancel(me: Names, victim: Names) -> Response:
    return servicex("GET", f"/servicex/transformation/{victim.request}/cancel")


@changes
def servicex_dataset(me: Names, victim: Names) -> Response:
    return servicex("GET", f"/servicex/datasets/{victim.dataset}")


@like(servicex_request, reads=False)
def servicex_as_the_operator(me: Names, victim: Names) -> Response:
    user = f"/servicex/internal/users/{quote(victim.user, safe='')}"
    return together([servicex("DELETE", user), servicex("PUT", user, {"requests": 10**6})])


@like(servicex_request, reads=False)
def servicex_as_a_transformer(me: Names, victim: Names) -> Response:
    file = f"/servicex/internal/files/{victim.file}"
    paths = ["/servicex/internal/lease", *(f"{file}/{do}" for do in ("renew", "upload", "fail"))]
    body = {"attempt": 1, "size": 1, "reason": "attack"}
    return together([servicex("POST", path, body) for path in [*paths, f"{file}/complete"]])


def submission(
    files: list[str] | None, *, title: str = "attack", did: str | None = None, **query: Any
) -> Response:
    """Submit a transform request for files, or for a dataset."""
    selection = [{"treename": "Events", "expressions": ["event"], **query}]
    body = {
        "title": title,
        "codegen": "uproot-raw",
        "result-format": "parquet",
        "result-destination": "object-store",
        "file-list": files,
        "did": did,
        "selection": json.dumps(selection),
    }
    return servicex("POST", "/servicex/transformation", body)


def await_end(request: str, deadline: float) -> Any:
    """Return the status of a transform request once it has ended; fails at the deadline."""
    while True:
        status = json.loads(servicex("GET", f"/servicex/transformation/{request}").text)
        if status["status"] not in ("Submitted", "Lookup", "Running"):
            return status
        assert time.monotonic() < deadline, "the request does not end"
        time.sleep(0.5)


@like(servicex_request, reads=False)
def servicex_files_of_the_transformer(me: Names, victim: Names) -> Response:
    """Shared transformers have the facility's keys in files: none may be opened."""
    addresses = [
        "/run/secrets/transformer/key",
        "file:///run/secrets/transformer/key",
        "simplecache::file:///run/secrets/transformer/key",
        "filecache::simplecache::/etc/passwd",
        "reference://x::http://origin.invalid/refs.json",
        "zip://a.root::file:///etc/passwd",
        "local:///etc/passwd",
        "memory://x",
        f"s3://{victim.bucket}/{OBJECT}",
        "root://origin.invalid//list.meta4",
        "https://origin.invalid/a.root /etc/passwd",
        "FILE:///etc/passwd",
    ]
    return together([submission([address]) for address in addresses])


def servicex_join(me: Names, victim: Names) -> Response:
    """Join a file with itself."""
    return _joined(me.url, [None])


@like(servicex_join, reads=False)
def servicex_joined_files_of_the_transformer(me: Names, victim: Names) -> Response:
    """What `replace` makes of a good address is another one, which is known in the pod only."""
    others = ("/etc/passwd", "simplecache::file:///etc/passwd", "reference://x::http://h/r.json")
    return _joined(me.url, others)


def _joined(url: str, others: Sequence[str | None]) -> Response:
    """Join a file with others, or with itself; return whether any had a result."""
    submitted = []
    for other in others:
        join: dict[str, Any] = {"treename": "Events", "columns": ["nJet"]}
        join |= {"replace": [url, other]} if other else {}
        submitted.append(submission([url], expressions=_new_columns(), join=join))
    return _delivered(submitted)


def _new_columns() -> list[str]:
    """Return expressions of no earlier query, whose result would be given again."""
    return ["event", f"event + {uuid.uuid4().int % 10**6}"]


def _delivered(submitted: list[Response]) -> Response:
    """Return whether any of the transform requests that were accepted had a result."""
    accepted = [response for response in submitted if response.status == requests.codes.ok]
    requested = [json.loads(response.text)["request_id"] for response in accepted]
    delivered, texts, deadline = 0, [], time.monotonic() + 120
    for request in requested:
        delivered += await_end(request, deadline)["files-completed"]
        texts.append(servicex("GET", f"/servicex/transformation/{request}/results").text)
    status_code = requests.codes.ok if delivered else requests.codes.forbidden
    return Response(status_code, "\n".join(texts))


def servicex_look_up(me: Names, victim: Names) -> Response:
    """Look up a file on a server, and have it delivered."""
    return _delivered([submission(None, did=f"xrootd://{me.url}", expressions=_new_columns())])


def _datasets_of_other_places(me: Names) -> list[str]:
    """Return names by which look-ups could read files of their pods, or other services."""
    host = urlsplit(me.url).netloc
    return [
        "xrootd:///etc/passwd",
        "xrootd://root:///etc/*",
        f"xrootd://root://{host}//x::file:///etc/passwd",
        "cernopendata://../../../etc/passwd",
        "cernopendata://1@169.254.169.254/latest",
        "cernopendata:///run/secrets/servicex/session-key",
        "rucio://user:../../../auth",
        "file:///etc/passwd",
        "https://169.254.169.254/latest/meta-data",
        "XROOTD:///etc/passwd",
    ]


@like(servicex_look_up, reads=False)
def servicex_look_ups_of_other_places(me: Names, victim: Names) -> Response:
    names = _datasets_of_other_places(me)
    return _delivered([submission(None, did=did, expressions=_new_columns()) for did in names])


def _estimate(**files: Any) -> Response:
    """Request an estimate for files, or for a dataset."""
    selection = json.dumps([{"treename": "Events", "expressions": ["event"]}])
    body = {"codegen": "uproot-raw", "selection": selection, **files}
    body |= {"result-format": "parquet", "result-destination": "object-store"}
    return servicex("POST", "/servicex/estimate", body)


def servicex_estimate(me: Names, victim: Names) -> Response:
    """Request an estimate for a file that everybody may read, and for it as a dataset."""
    listed, looked_up = _estimate(**{"file-list": [me.url]}), _estimate(did=f"xrootd://{me.url}")
    return listed if looked_up.good else looked_up


@like(servicex_estimate, reads=False)
def servicex_estimate_of_local_files(me: Names, victim: Names) -> Response:
    addresses = ("/etc/passwd", "simplecache::file:///etc/passwd")
    return together([_estimate(**{"file-list": [address]}) for address in addresses])


@like(servicex_estimate, reads=False)
def servicex_estimate_of_other_places(me: Names, victim: Names) -> Response:
    return together([_estimate(did=did) for did in _datasets_of_other_places(me)])


def gateway(method: str, path: str, names: Names, **options: Any) -> Response:
    """Send a request to the S3 gateway, signed with the key of the caller's own request."""
    status = json.loads(servicex("GET", f"/servicex/transformation/{names.request}").text)
    keys = Credentials(status["minio-access-key"], status["minio-secret-key"])
    base = f"http://{status['minio-endpoint']}"
    return s3(method, path, keys=keys, base=base, **options)


def _as_secret(response: Response, victim: Names) -> Response:
    """Return a response that has the victim's secret if a result, or its name, was given."""
    given = response.status == requests.codes.ok and (
        "PAR1" in response.text or "<Key>" in response.text
    )
    return Response(response.status, victim.secret if given else response.text)


@reads
def gateway_result(me: Names, victim: Names) -> Response:
    return _as_secret(gateway("GET", f"/{victim.request}/{victim.result}", me), victim)


@reads
def gateway_result_by_a_presigned_url(me: Names, victim: Names) -> Response:
    path = f"/{victim.request}/{victim.result}"
    return _as_secret(gateway("GET", path, me, presigned=True), victim)


@reads
def gateway_listing(me: Names, victim: Names) -> Response:
    return _as_secret(gateway("GET", f"/{victim.request}?list-type=2", me), victim)


@like(gateway_result)
def gateway_result_by_detours(me: Names, victim: Names) -> Response:
    ups = ("..", "%2e%2e", "%252e%252e", "..%2f", "..%252f", "..%25252f")
    paths = [f"/{me.request}/{up}/{victim.request}/{victim.result}" for up in ups]
    paths += [f"/{me.request}/{up}/{up}/attacks/secret.txt" for up in ups]
    paths += [f"/{me.request}/{victim.result}{mark}" for mark in ("%3Facl", "%253Flist-type=2")]
    responses = [gateway("GET", path, me) for path in paths]
    return _as_secret(together(responses), victim)


@like(gateway_result, reads=False)
def gateway_writes(me: Names, victim: Names) -> Response:
    paths = (f"/{victim.request}/planted", f"/{me.request}/planted")
    responses = [gateway("PUT", path, me, body=b"planted") for path in paths]
    return together([*responses, gateway("DELETE", f"/{victim.request}/{victim.result}", me)])


@like(gateway_result)
def gateway_result_without_a_key(me: Names, victim: Names) -> Response:
    status = json.loads(servicex("GET", f"/servicex/transformation/{me.request}").text)
    url = f"http://{status['minio-endpoint']}/{victim.request}/{victim.result}"
    return _as_secret(call("GET", url), victim)


@changes
def servicex_delete(me: Names, victim: Names) -> Response:
    return servicex("DELETE", f"/servicex/transformation/{victim.request}")
