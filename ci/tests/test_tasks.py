import threading
from collections.abc import Callable

import pytest
from shoppe_ci import tasks
from shoppe_ci.errors import ShoppeError
from shoppe_ci.tasks import Task

LANES = {"compile": 1, "network": 2}


def test_a_task_runs_after_those_that_it_needs() -> None:
    order: list[str] = []
    plan = [
        Task("tool", "compile", lambda: order.append("tool")),
        Task("image", "network", lambda: order.append("image"), needs=("tool",)),
        Task("cluster", "network", lambda: order.append("cluster"), needs=("image", "tool")),
    ]
    tasks.run(plan, LANES)
    assert order == ["tool", "image", "cluster"]


def test_lanes_run_beside_each_other_and_each_is_bounded() -> None:
    met = threading.Barrier(3)  # one that compiles, two in the network

    def meet() -> None:
        met.wait(5)

    plan = [Task(f"tool {n}", "compile", meet) for n in range(2)]
    plan += [Task(f"image {n}", "network", meet) for n in range(4)]
    tasks.run(plan, LANES)

    compiling = threading.Lock()

    def alone() -> None:
        assert compiling.acquire(blocking=False)
        threading.Event().wait(0.01)
        compiling.release()

    tasks.run([Task(f"tool {n}", "compile", alone) for n in range(3)], LANES)


def test_earlier_tasks_of_a_lane_come_first() -> None:
    order: list[str] = []

    def named(name: str) -> Callable[[], object]:
        return lambda: order.append(name)

    tasks.run([Task(name, "compile", named(name)) for name in "cab"], LANES)
    assert order == list("cab")


def test_the_error_is_that_of_the_failed_task_and_nothing_begins_after_it() -> None:
    failed, ended, begun = threading.Event(), threading.Event(), threading.Event()

    def fail() -> None:
        failed.set()
        raise ShoppeError("no network", "mend it")

    def goes_on() -> None:
        assert failed.wait(5)
        threading.Event().wait(0.1)
        ended.set()

    plan = [
        Task("tool", "compile", goes_on),
        Task("package", "network", fail),
        Task("image", "network", begun.set, needs=("package",)),
        Task("another", "compile", begun.set),
    ]
    with pytest.raises(ShoppeError, match="no network"):
        tasks.run(plan, LANES)
    assert ended.is_set()
    assert not begun.is_set()


def test_a_task_that_needs_what_does_not_come_before_it_is_named() -> None:
    with pytest.raises(ValueError, match="image needs \\['tool'\\]"):
        tasks.run([Task("image", "network", lambda: None, needs=("tool",))], LANES)
