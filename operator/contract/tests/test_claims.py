import re
from functools import partial

import pytest
from coffea_shoppe_contract.claims import (
    TOKEN_LIFETIME_S,
    Identity,
    RefusedError,
    token_claims,
    verify_claims,
)
from coffea_shoppe_contract.names import resource_name, secret_name

NOW = 1_000_000.0
GOOD = token_claims(
    issuer="here", audience="servicex", user="ann", uid="u1", groups=("cms",), now=NOW
)


def identify(**changes: object) -> Identity:
    said = {**GOOD, **{k: v for k, v in changes.items() if k not in ("now", "revoked")}}
    said = {key: value for key, value in said.items() if value is not None}
    return verify_claims(
        said,
        issuer="here",
        audience="servicex",
        now=float(changes.get("now", NOW)),  # type: ignore[arg-type]
        revoked=changes.get("revoked", {}),  # type: ignore[arg-type]
    )


def test_a_good_token_tells_who_it_is() -> None:
    found = identify(revoked={"u2": NOW, "u1": NOW - 1})
    assert (found.user, found.uid, found.groups) == ("ann", "u1", ("cms",))
    assert found.expires == NOW + TOKEN_LIFETIME_S


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"iss": "elsewhere"}, "issuer is 'elsewhere', not this facility"),
        ({"aud": "mlflow"}, "for 'mlflow', not for 'servicex'"),
        ({"now": NOW + 2 * TOKEN_LIFETIME_S}, "expired"),
        ({"now": NOW - 60}, "clocks differ"),
        ({"exp": NOW + 10 * TOKEN_LIFETIME_S}, "lives longer"),
        ({"revoked": {"u1": NOW}}, "revoked"),
        ({"uid": None}, "lacks 'uid'"),
        ({"exp": "soon"}, "lacks"),
    ],
)
def test_any_other_token_is_refused_with_the_reason(changes: dict[str, object], told: str) -> None:
    with pytest.raises(RefusedError, match=told):
        identify(**changes)


def test_only_a_refresh_token_may_live_for_long() -> None:
    said = token_claims(
        issuer="here", audience="servicex-refresh", user="ann", uid="u1", groups=(), now=NOW
    )
    late = NOW + 20 * 3600
    verify = partial(verify_claims, issuer="here", now=late, revoked={})
    assert verify(said, audience="servicex-refresh").user == "ann"
    with pytest.raises(RefusedError, match="not for 'servicex'"):
        verify(said, audience="servicex")
    with pytest.raises(RefusedError, match=r"lives longer .*; request a shorter-lived one"):
        verify({**said, "aud": "servicex"}, audience="servicex")


@pytest.mark.parametrize("user", ["ann", "Ann", "ann@cern.ch", "ann.b", "ann-b", "é", "a" * 99])
def test_a_users_resource_has_a_dns_label_for_a_name(user: str) -> None:
    assert re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", resource_name(user))
    assert len(secret_name(user)) <= 63


def test_no_two_users_share_a_resource() -> None:
    users = ["ann", "Ann", "ann.b", "ann-b", "ann_b", "-ann", "ann-", "a" * 50, "a" * 51]
    # Not even one who calls himself as another one's resource is called.
    users += [resource_name(user) for user in users if resource_name(user) != user]
    names = {resource_name(user) for user in set(users)}
    assert len(names) == len(set(users))
