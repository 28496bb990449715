"""An API server that answers what Helm's `lookup` asks, from objects in memory."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import yaml

Manifest = dict[str, Any]

KINDS = {
    "v1": {"Secret": "secrets", "PersistentVolumeClaim": "persistentvolumeclaims"},
    "storage.k8s.io/v1": {"StorageClass": "storageclasses"},
    "apps/v1": {"Deployment": "deployments"},
    "apiextensions.k8s.io/v1": {"CustomResourceDefinition": "customresourcedefinitions"},
}
CLUSTER_WIDE = {"StorageClass", "CustomResourceDefinition"}


def _address(version: str) -> str:
    return f"/api/{version}" if "/" not in version else f"/apis/{version}"


def _path(manifest: Manifest) -> str:
    """Return where the API has an object."""
    kind, version = manifest["kind"], manifest["apiVersion"]
    namespace = manifest["metadata"].get("namespace")
    place = f"/namespaces/{namespace}" if namespace else ""
    return f"{_address(version)}{place}/{KINDS[version][kind]}/{manifest['metadata']['name']}"


def _documents(manifests: list[Manifest]) -> dict[str, Manifest]:
    """Return what there is to read, by path."""
    documents: dict[str, Manifest] = {
        "/version": {"major": "1", "minor": "34", "gitVersion": "v1.34.0"},
        "/api": {"kind": "APIVersions", "versions": ["v1"]},
        "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": []},
    }
    for version, kinds in KINDS.items():
        resources = [
            {"name": plural, "kind": kind, "namespaced": kind not in CLUSTER_WIDE, "verbs": ["get"]}
            for kind, plural in kinds.items()
        ]
        listing = {"kind": "APIResourceList", "groupVersion": version, "resources": resources}
        documents[_address(version)] = listing
    return documents | {_path(manifest): manifest for manifest in manifests}


@contextmanager
def api_server(manifests: list[Manifest]) -> Iterator[str]:
    """Yield the text of a kubeconfig, as JSON, for a cluster that has these objects."""
    documents = _documents(manifests)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            document = documents.get(self.path.partition("?")[0])
            missing = {"kind": "Status", "apiVersion": "v1", "reason": "NotFound", "code": 404}
            body = json.dumps(document or missing).encode()
            self.send_response(200 if document else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *arguments: Any) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "a",
                "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
                "clusters": [
                    {"name": "a", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}
                ],
                "users": [{"name": "a", "user": {}}],
            }
        )
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
