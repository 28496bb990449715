from collections.abc import Callable
from dataclasses import replace

import pytest
from shoppe_ci import engine, images, nodeimage, tasks, toolchain, up
from shoppe_ci.engine import Engine, pins
from shoppe_ci.machine import Source
from shoppe_ci.tasks import Task


def tasks_for(
    monkeypatch: pytest.MonkeyPatch, source: Source, has_image: Callable[[str], bool] | None
) -> dict[str, Task]:
    """Return the tasks for a machine whose engine, if any, has those images."""
    present = None
    if has_image:
        present = Engine("docker", "/usr/bin/docker")
        monkeypatch.setattr(Engine, "has_image", lambda _, name: has_image(name))
    monkeypatch.setattr(engine, "find", lambda: present)
    plan = up._plan(source)
    # They are in an order in which they can run, in lanes that exist.
    tasks.run([replace(task, run=lambda: None) for task in plan], up.LANES)
    return {task.name: task for task in plan}


def test_from_nothing_all_is_built_and_compilers_do_not_wait_for_images(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plan = tasks_for(monkeypatch, "source", None)
    assert {f"image {name}" for name in images.declared()} <= plan.keys()
    assert set(nodeimage.TOOLS) <= set(plan["node"].needs)
    compiled = [task for task in plan.values() if task.lane == "compile"]
    assert {"kubernetes", "versitygw"} <= {task.name for task in compiled}
    assert not any(task.needs for task in compiled)
    assert {task.name for task in plan.values() if task.lane == "fetch"} == {
        "sources",
        *pins()["wheel"],
    }
    assert {"image base", "versitygw"} <= set(plan["image objectstore"].needs)
    assert set(plan["image base"].needs) == {"engine", "root"}


def test_what_is_there_is_not_built(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = tasks_for(monkeypatch, "source", lambda _: True)
    programs = {f"program {name}" for name in up.PROGRAMS}
    assert plan.keys() == {"engine", "image of the registry", *programs}


def test_one_missing_image_asks_for_its_program_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = tasks_for(monkeypatch, "source", lambda name: "/edge:" not in name)
    assert set(plan["image edge"].needs) == {"engine", "traefik"}
    assert "node" not in plan
    assert "kubernetes" not in plan


def test_an_ordinary_machine_compiles_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = tasks_for(monkeypatch, "registry", None)
    assert {name for name, task in plan.items() if task.lane != "images"} == {
        f"program {name}" for name in up.PROGRAMS
    }
    assert set(plan["image edge"].needs) == {"engine", "image base"}


@pytest.mark.parametrize("tool", nodeimage.TOOLS)
def test_another_version_of_a_tool_in_it_is_another_node_image(
    monkeypatch: pytest.MonkeyPatch, tool: str
) -> None:
    before = nodeimage.name("source")
    real = toolchain.key
    monkeypatch.setattr(toolchain, "key", lambda name: real(name) + "x" * (name == tool))
    assert nodeimage.name("source") != before
    assert nodeimage.name("registry") == pins()["kubernetes"]["node_image"]
