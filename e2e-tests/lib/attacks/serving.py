"""Attacks on Triton."""

import json
from typing import Any

import coffea_shoppe as shoppe
import requests

from lib.attacks.table import (
    TIMEOUT_S,
    Names,
    Response,
    bearer,
    call,
    call_raw,
    changes,
    like,
    together,
)


def triton(method: str, path: str, body: Any = None) -> Response:
    """Send a request to Triton; the path stays as it is."""
    content = json.dumps(body).encode() if body is not None else b""
    headers = bearer("triton") | {"Content-Type": "application/json"}
    return call_raw(method, f"{shoppe.connections()['triton']}{path}", headers, content)


@changes
def triton_configuration(me: Names, victim: Names) -> Response:
    return triton("GET", f"/v2/models/{victim.served}/config")


@changes
def triton_statistics(me: Names, victim: Names) -> Response:
    return triton("GET", f"/v2/models/{victim.served}/stats")


@changes
def triton_scores(me: Names, victim: Names) -> Response:
    rows = {"name": "input__0", "shape": [1, 2], "datatype": "FP32", "data": [0.0, 1.0]}
    return triton("POST", f"/v2/models/{victim.served}/infer", {"inputs": [rows]})


@like(triton_configuration, reads=False)
def triton_by_detours(me: Names, victim: Names) -> Response:
    own = f"{me.prefix}bdt"
    ways = [
        f"/v2/models/{own}/../{victim.served}/config",
        f"/v2/models/{own}%2f..%2f{victim.served}/config",
        f"/v2/models/{own}/%2e%2e/{victim.served}/config",
        f"/v2//models/{victim.served}/config",
        f"//v2/models/{victim.served}/config",
        f"/v2/models/{victim.served}/versions/1/../config",
        f"/v2/models/%{ord(victim.served[0]):x}{victim.served[1:]}/config",
        f"/v2/models/{victim.served.upper()}/config",
        f"/v2/models/{own};{victim.served}/config",
        "/v2/models/stats",
        "/v2/models//stats",
    ]
    return together([triton("GET", way) for way in ways])


@like(triton_configuration, reads=False)
def triton_without_a_token(me: Names, victim: Names) -> Response:
    url = f"{shoppe.connections()['triton']}/v2/models/{victim.served}/config"
    tokens = [{}, bearer("mlflow"), bearer("servicex"), {"X-Forwarded-User": victim.user}]
    return together([call("GET", url, headers=headers) for headers in tokens])


@like(triton_configuration, reads=False)
def triton_repository(me: Names, victim: Names) -> Response:
    model = f"/v2/repository/models/{victim.served}"
    tries = [("POST", "/v2/repository/index"), ("POST", f"{model}/unload")]
    tries += [("POST", f"{model}/load"), ("POST", f"/v2/repository/models/{me.prefix}x/load")]
    return together([triton(method, path, {}) for method, path in tries])


@like(triton_configuration, reads=False)
def triton_shared_memory_and_settings(me: Names, victim: Names) -> Response:
    region = {"key": "/x", "offset": 0, "byte_size": 64}
    return together(
        [
            triton("POST", "/v2/systemsharedmemory/region/x/register", region),
            triton("GET", "/v2/systemsharedmemory/status"),
            triton("GET", "/v2/cudasharedmemory/status"),
            triton("POST", "/v2/trace/setting", {"trace_level": ["TIMESTAMPS"]}),
            triton("GET", f"/v2/models/{victim.served}/trace/setting"),
            triton("POST", "/v2/logging", {"log_file": "x"}),
        ]
    )


def triton_grpc(method: str, model: str) -> Response:
    """Call a method of Triton's gRPC service with a message that names a model."""
    import grpc

    address, headers = shoppe.triton()
    message = b"\n" + bytes([len(model)]) + model.encode() if model else b""
    with grpc.insecure_channel(address) as channel:
        unary = channel.unary_unary(f"/inference.GRPCInferenceService/{method}")
        try:
            response = unary(message, metadata=list(headers.items()), timeout=TIMEOUT_S)
        except grpc.RpcError as error:
            return Response(requests.codes.forbidden, str(error))
    return Response(requests.codes.ok, str(response))


@changes
def triton_configuration_by_grpc(me: Names, victim: Names) -> Response:
    return triton_grpc("ModelConfig", victim.served)


@like(triton_configuration_by_grpc, reads=False)
def triton_others_by_grpc(me: Names, victim: Names) -> Response:
    methods = ["ModelInfer", "ModelStreamInfer", "ModelMetadata", "ModelStatistics"]
    methods += ["RepositoryIndex", "RepositoryModelUnload", "RepositoryModelLoad"]
    methods += ["SystemSharedMemoryStatus", "CudaSharedMemoryStatus", "TraceSetting"]
    responses = [triton_grpc(method, victim.served) for method in methods]
    return together([*responses, triton_grpc("ModelStatistics", "")])
