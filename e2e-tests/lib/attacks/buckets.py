"""Attacks on the object store."""

import coffea_shoppe as shoppe
from botocore.credentials import Credentials

from lib.attacks.table import (
    ARTIFACT,
    OBJECT,
    Names,
    Response,
    call,
    changes,
    like,
    own_keys,
    reads,
    s3,
    together,
)


@reads
def bucket_object(me: Names, victim: Names) -> Response:
    return s3("GET", f"/{victim.bucket}/{OBJECT}")


@reads
def bucket_listing(me: Names, victim: Names) -> Response:
    response = s3("GET", f"/{victim.bucket}?list-type=2&prefix=attacks%2F")
    # The attacker knows the object's name, so the name in a listing counts as the secret.
    return Response(response.status, response.text.replace(OBJECT, f"{OBJECT} {victim.secret}"))


@reads
def bucket_object_by_a_presigned_url(me: Names, victim: Names) -> Response:
    return s3("GET", f"/{victim.bucket}/{OBJECT}", presigned=True)


@reads
def bucket_object_copied_into_the_own(me: Names, victim: Names) -> Response:
    source = f"/{victim.bucket}/{OBJECT}"
    s3("PUT", f"/{me.bucket}/attacks/copy.txt", x_amz_copy_source=source)
    return s3("GET", f"/{me.bucket}/attacks/copy.txt")


def _detours(me: Names, victim: Names) -> list[str]:
    """Return paths that begin in the caller's bucket and lead to the victim's."""
    ups = ("..", "%2e%2e", "%252e%252e", "..%2f..", "..%252f..", ".%00./..")
    return [f"/{me.bucket}/attacks/{up}/{up}/{victim.bucket}/{OBJECT}" for up in ups]


@like(bucket_object)
def bucket_object_by_detours(me: Names, victim: Names) -> Response:
    return together([s3("GET", path) for path in _detours(me, victim)])


@like(bucket_object)
def bucket_object_without_a_key(me: Names, victim: Names) -> Response:
    return call("GET", f"{shoppe.connections()['s3']}/{victim.bucket}/{OBJECT}")


@like(bucket_object)
def bucket_object_with_a_key_of_one_s_own_making(me: Names, victim: Names) -> Response:
    keys = Credentials(victim.bucket, own_keys().secret_key)
    return s3("GET", f"/{victim.bucket}/{OBJECT}", keys=keys)


@changes
def bucket_acl(me: Names, victim: Names) -> Response:
    return s3("GET", f"/{victim.bucket}?acl")


@changes
def bucket_put(me: Names, victim: Names) -> Response:
    return s3("PUT", f"/{victim.bucket}/attacks/planted.txt", body=b"planted")


@changes
def bucket_copy_into_the_victim_s(me: Names, victim: Names) -> Response:
    source = f"/{me.bucket}/{OBJECT}"
    return s3("PUT", f"/{victim.bucket}/attacks/planted.txt", x_amz_copy_source=source)


@changes
def bucket_multipart(me: Names, victim: Names) -> Response:
    return s3("POST", f"/{victim.bucket}/attacks/parts.txt?uploads=")


@changes
def bucket_delete(me: Names, victim: Names) -> Response:
    return s3("DELETE", f"/{victim.bucket}/attacks/planted.txt")


@like(bucket_object)
def bucket_of_mlflow(me: Names, victim: Names) -> Response:
    return together(
        [
            s3("GET", f"/service-mlflow/workspaces/{victim.artifacts}/{ARTIFACT}"),
            s3("GET", f"/service-mlflow{victim.artifacts}/{ARTIFACT}"),
            s3("GET", "/service-mlflow?list-type=2"),
            s3("GET", "/service-triton?list-type=2"),
        ]
    )
