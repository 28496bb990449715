"""What is away or wrong while models are served: a clear status, and recovery by itself."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from lib.fixtures import passing_user, run_code
from lib.serving import REGISTER, printed_lines, serve_first
from shoppe_ci import release
from shoppe_ci.cluster import Cluster
from shoppe_ci.facility import User
from shoppe_ci.testing import with_values
from shoppe_ci.wait import eventually

pytestmark = pytest.mark.part("faults")


@pytest.fixture(scope="module")
def strict(facility: Cluster) -> Iterator[Cluster]:
    """The facility with a small largest size of models; as it was afterwards."""
    with with_values(facility, {"operator": {"triton": {"megabytes": 1}}}):
        yield facility


@pytest.fixture(scope="module")
def dan(strict: Cluster) -> Iterator[User]:
    yield from passing_user(strict, "dan.serves")


@pytest.fixture(scope="module")
def served(dan: User) -> str:
    return serve_first(dan)


@contextmanager
def stopped(cluster: Cluster, workload: str) -> Iterator[None]:
    """Have a component stopped meanwhile."""
    cluster.kubectl("-n", "shoppe", "scale", workload, "--replicas=0")
    component = workload.rpartition("/")[2].removeprefix("shoppe-")
    label = f"app.kubernetes.io/component={component}"
    try:
        eventually(
            lambda: not cluster.get("pods", "-n", "shoppe", "-l", label)["items"],
            f"{workload} is away",
            timeout=90,
        )
        yield
    finally:
        cluster.kubectl("-n", "shoppe", "scale", workload, "--replicas=1")
        release.wait_ready(cluster)


def test_a_model_that_is_too_large_is_refused_and_a_smaller_one_in_its_stead_is_served(
    dan: User, served: str
) -> None:
    code = (
        f"{REGISTER}"
        "_, large = register(3, name='large', trees=2000)\n"
        "tell(said(lambda: shoppe.serve(f'models:/large/{large}')))\n"
        "tell(said(lambda: infer(f'{served}'.replace('bdt', 'large'), rows)))\n"
        "booster, small = register(3, name='large', form='json')\n"
        "one = shoppe.serve(f'models:/large/{small}')\n"
        "tell(one.ready, abs(infer(one.model, rows) - booster.inplace_predict(rows)).max())\n"
        "shoppe.unserve('large')"
    ).replace("{served}", served)
    refused, unknown, then = printed_lines(run_code(dan, code))
    assert "is larger than 1 MiB" in refused
    assert "is not found" in unknown or "unknown model" in unknown
    assert then == "True 0.0"


def test_a_model_whose_artifact_is_gone_is_told_and_the_old_one_stays(
    dan: User, served: str, strict: Cluster
) -> None:
    register = (
        f"{REGISTER}"
        "_, version = register(5)\n"
        "found = mlflow.MlflowClient().get_model_version('bdt', version)\n"
        "tell(version, found.source.rpartition('/')[2])"
    )
    ((version, model),) = (line.split() for line in printed_lines(run_code(dan, register)))
    store = ("-n", "shoppe", "exec", "shoppe-objectstore-0", "-c", "objectstore", "--")
    where = strict.kubectl(*store, "find", "/data/objects/service-mlflow", "-name", model).split()
    assert len(where) == 1
    strict.kubectl(*store, "rm", "-r", *where)
    ask = (
        f"{REGISTER}"
        f"tell(said(lambda: shoppe.serve('models:/bdt/{version}')))\n"
        f"tell(len(infer('{served}', rows)))"
    )
    refused, rows = printed_lines(run_code(dan, ask))
    assert "MLflow has no artifact" in refused
    assert "is still served" in refused
    assert rows == "1000"


@pytest.mark.parametrize(
    ("workload", "named"),
    [("deployment/shoppe-mlflow", "MLflow"), ("statefulset/shoppe-objectstore", "")],
)
def test_what_is_served_stays_while_a_service_is_away_and_what_is_asked_comes_afterwards(
    dan: User, served: str, strict: Cluster, workload: str, named: str
) -> None:
    before = (
        f"{REGISTER}"
        "booster, version = register(4)\n"
        "open('version', 'w').write(version)\n"
        "booster.save_model('booster.json')\n"
        f"np.save('before.npy', infer('{served}', rows))"
    )
    run_code(dan, before)
    meanwhile = (
        f"{REGISTER}"
        "version = open('version').read()\n"
        "tell(said(lambda: shoppe.serve(f'models:/bdt/{version}', timeout=25)))\n"
        f"tell((infer('{served}', rows) == np.load('before.npy')).all())\n"
        "(mine,) = [one for one in shoppe.served() if one.name == 'bdt']\n"
        "tell(mine.ready, mine.reason, mine.version != version)"
    )
    with stopped(strict, workload):
        waited, same, status = printed_lines(run_code(dan, meanwhile))
    assert "was not served within 25 s" in waited
    assert named in waited
    assert same == "True"
    assert status == "False Unavailable True"
    after = (
        f"{REGISTER}"
        "(mine,) = [one for one in shoppe.served() if one.name == 'bdt']\n"
        "booster = xgboost.Booster(model_file='booster.json')\n"
        "tell(mine.ready and mine.version == open('version').read())\n"
        f"tell(abs(infer('{served}', rows) - booster.inplace_predict(rows)).max())"
    )
    eventually(
        lambda: printed_lines(run_code(dan, after)) == ["True", "0.0"],
        "what was asked for is served by itself",
        timeout=120,
    )


def test_triton_serves_after_a_start_without_its_store(
    dan: User, served: str, strict: Cluster
) -> None:
    label = ("-l", "app.kubernetes.io/component=triton")
    with stopped(strict, "statefulset/shoppe-objectstore"):
        strict.kubectl("-n", "shoppe", "delete", "pod", *label)
        eventually(
            lambda: (
                "Unable to create S3 filesystem client"
                in strict.kubectl("-n", "shoppe", "logs", *label, "-c", "triton", "--tail=-1")
            ),
            "Triton has started without its store",
            timeout=120,
        )
    # `stopped` has waited until Triton is ready.
    code = f"{REGISTER}\ntell(len(infer('{served}', rows)))"
    assert printed_lines(run_code(dan, code)) == ["1000"]
