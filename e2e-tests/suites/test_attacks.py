"""An attacker who knows every id, name and bucket of another user gets and changes nothing.

The ways are the table in `lib.attacks`; the owner succeeds by the same call, or where a detour is
open to nobody, by the direct one.
"""

import inspect
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from coffea_shoppe_contract.names import bucket_name, model_prefix, resource_name, workspace_name
from coffea_shoppe_contract.resources import DASK_SCHEDULER, USER_LABEL
from lib import attacks
from lib.attacks.planting import Plan
from lib.attacks.table import Names
from lib.fixtures import run_code
from shoppe_ci import origin, overload
from shoppe_ci.cluster import Cluster
from shoppe_ci.facility import User

pytestmark = pytest.mark.part("faults")

SOURCES = {path.name: path.read_text() for path in Path(attacks.__file__).parent.glob("*.py")}
Outcomes = dict[str, tuple[bool | None, str]]
"""By row: whether it succeeded, None for an error of its own; and what the server said."""


def arrive(sources: dict[str, str]) -> None:
    """Make the table importable; this function's source is sent to users' pods."""
    import pathlib
    import sys
    import tempfile

    folder = pathlib.Path(tempfile.mkdtemp())
    (folder / "lib" / "attacks").mkdir(parents=True)
    for name, source in sources.items():
        (folder / "lib" / "attacks" / name).write_text(source)
    sys.path.insert(0, str(folder))


def attack_from_here(sources: dict[str, str], me: dict[str, str], victim: dict[str, str]) -> Any:
    """Try all rows; this function's source is sent to users' pods, after that of `arrive`."""
    arrive(sources)
    from lib import attacks
    from lib.attacks.table import Names

    return attacks.run(Names(**me), Names(**victim))


BOTH = inspect.getsource(arrive) + inspect.getsource(attack_from_here) + f"sources = {SOURCES!r}\n"
BOTH = f"from typing import Any\n{BOTH}"
SEND = f"""{BOTH}
arrive(sources)
import dataclasses, json
from lib.attacks.planting import Plan, forget, plant
from lib.attacks.table import Names
"""


@dataclass(frozen=True)
class Tried:
    """What came of all attacks: by the attacker, and by the owner."""

    attacker: Outcomes
    owner: Outcomes
    restarted: list[str]
    """The facility's containers that ended meanwhile."""


def planted(user: User, url: str, **more: bool) -> Names:
    """Make what is a user's and can be attacked."""
    plan = Plan(
        user=user.name,
        bucket=bucket_name(user.name),
        workspace=workspace_name(user.name),
        prefix=model_prefix(user.name),
        url=url,
        **more,
    )
    code = f"{SEND}print(json.dumps(dataclasses.asdict(plant(Plan(**{asdict(plan)!r})))))"
    return Names(**json.loads(run_code(user, code).splitlines()[-1]))


def tried(printed: str) -> Outcomes:
    """Return the outcomes that a user's code has printed last."""
    outcomes: dict[str, Any] = json.loads(printed.splitlines()[-1])
    return {name: (succeeded, text) for name, (succeeded, text) in outcomes.items()}


def notebook(user: User, me: Names, victim: Names) -> Outcomes:
    """Have a user try all rows in a notebook."""
    call = f"attack_from_here(sources, {asdict(me)!r}, {asdict(victim)!r})"
    return tried(run_code(user, f"{BOTH}import json; print(json.dumps({call}))"))


def worker(user: User, me: Names, victim: Names) -> Outcomes:
    """Have a user try all rows in a Dask worker."""
    call = f"attack_from_here, sources, {asdict(me)!r}, {asdict(victim)!r}"
    return tried(
        run_code(
            user,
            f"{BOTH}import json\n"
            "from dask_gateway import Gateway\n"
            "cluster = Gateway().new_cluster(); cluster.scale(1); client = cluster.get_client()\n"
            "client.wait_for_workers(1, timeout=180)\n"
            f"outcomes = client.submit({call}).result()\n"
            "cluster.shutdown(); print(json.dumps(outcomes))",
        )
    )


def function(user: User, me: Names, victim: Names) -> Outcomes:
    """Have a user try all rows in a function that ServiceX runs."""
    call = f"attack_from_here(sources, {asdict(me)!r}, {asdict(victim)!r})"
    source = (
        f"{BOTH}def run_query(file):\n"
        "    import json, uproot\n"
        "    import coffea_shoppe as shoppe\n"
        f"    shoppe.storage().pipe_file('attacks/outcomes', json.dumps({call}).encode())\n"
        "    return uproot.open(file)['Events'].arrays(['event'], entry_stop=3)\n"
    )
    return tried(
        run_code(
            user,
            "from servicex import ProgressBarFormat, dataset, deliver, query\n"
            f"own = query.PythonFunction({source!r})\n"
            f"sample = {{'Name': 'a', 'Dataset': dataset.FileList([{me.url!r}]), 'Query': own}}\n"
            "deliver({'General': {'OutputFormat': 'parquet'}, 'Sample': [sample]},\n"
            "        progress_bar=ProgressBarFormat.none, ignore_local_cache=True)\n"
            "import coffea_shoppe as shoppe\n"
            "print(shoppe.storage().cat('attacks/outcomes').decode())",
        )
    )


def scheduler(facility: Cluster, user: User) -> str:
    """Return the address of the scheduler of a user's Dask cluster."""
    label = f"app.kubernetes.io/component={DASK_SCHEDULER},{USER_LABEL}={resource_name(user.name)}"
    (pod, *_) = facility.get("pods", "-n", "shoppe-dask", "-l", label)["items"]
    return f"{pod['status']['podIP']}:8786"


@pytest.fixture(scope="module")
def names(
    data_origin: Cluster, samples: list[tuple[Path, str, str, int]], ann: User, bob: User
) -> Iterator[tuple[Names, Names]]:
    """What is ann's, the victim, and what is bob's."""
    path = next(path for path, process, _, _ in samples if process == "wjets")
    url = origin.publish(data_origin, path)
    with ThreadPoolExecutor(2) as pool:
        victim = pool.submit(planted, ann, url, serve=True, cluster=True)
        attacker = pool.submit(planted, bob, url)
        pair = victim.result(), attacker.result()
    yield replace(pair[0], scheduler=scheduler(data_origin, ann)), pair[1]
    for user, owned in zip((ann, bob), pair, strict=True):
        run_code(user, f"forget(Names(**{asdict(owned)!r}))")


@pytest.fixture(scope="module")
def outcomes(ann: User, bob: User, names: tuple[Names, Names], facility: Cluster) -> Tried:
    """All attacks, then the owner's same calls: these remove some of what is attacked."""
    victim, attacker = names
    before = overload.lives(facility)
    tries = notebook(bob, attacker, victim), notebook(ann, victim, victim)
    after = overload.lives(facility)
    # Transformers that are no longer needed are removed.
    return Tried(*tries, [name for name in before.keys() & after if after[name] != before[name]])


@pytest.mark.parametrize("row", [row.name for row in attacks.ROWS])
def test_the_attacker_is_refused_where_the_owner_succeeds(outcomes: Tried, row: str) -> None:
    succeeded, response = outcomes.owner[row]
    assert succeeded, f"the owner fails: {response}"
    succeeded, response = outcomes.attacker[row]
    assert succeeded is False, f"the attacker is not refused: {response}"


def test_a_model_that_crashes_xgboost_ends_nothing_else(outcomes: Tried) -> None:
    """Its owner gets the reason, and the victim's models are still served."""
    _, response = outcomes.attacker["api_serve_a_damaged_model"]
    assert "XGBoost crashed while reading the model" in response
    assert outcomes.restarted == []
    succeeded, response = outcomes.owner["api_serve_a_damaged_model"]
    assert succeeded, response


@pytest.mark.parametrize("place", [worker, function])
def test_the_attacker_is_refused_in_any_pod_of_the_own(
    names: tuple[Names, Names], bob: User, place: Callable[[User, Names, Names], Outcomes]
) -> None:
    """The twins are the owner's calls in the notebook, where more is reached."""
    victim, attacker = names
    outcomes = place(bob, attacker, victim)
    assert outcomes.keys() == {row.name for row in attacks.ROWS}
    open_rows = {row: text for row, (succeeded, text) in outcomes.items() if succeeded is not False}
    assert open_rows == {}
