"""Runs the tasks of a cold start in parallel, as far as their dependencies allow."""

from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

from shoppe_ci.progress import say


@dataclass(frozen=True)
class Task:
    """A task, and the tasks that must finish before it.

    Tasks of one lane share what they mostly need, a processor or the network; a lane
    runs a bounded number of tasks at a time.
    """

    name: str
    lane: str
    run: Callable[[], object]
    needs: Collection[str] = ()


def run(tasks: Sequence[Task], lanes: Mapping[str, int]) -> None:
    """Run all tasks; in a lane, earlier ones of the sequence first.

    `lanes` has the number of tasks that each lane runs at a time.  Where a task fails, no
    other is begun, and its exception is raised once those that run have ended: some, such
    as installing packages, must not be cut short.
    Raises `ValueError` where a task needs one that does not come before it.
    """
    names: set[str] = set()
    for task in tasks:
        if missing := set(task.needs) - names:
            raise ValueError(f"{task.name} needs {sorted(missing)}, which do not come before it")
        names.add(task.name)
    waiting = list(tasks)
    done: set[str] = set()
    running: dict[Future[object], Task] = {}
    with ThreadPoolExecutor(max_workers=sum(lanes.values())) as pool:
        while waiting or running:
            for task in list(waiting):
                busy = sum(other.lane == task.lane for other in running.values())
                if busy < lanes[task.lane] and done.issuperset(task.needs):
                    waiting.remove(task)
                    running[pool.submit(task.run)] = task
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                finished = running.pop(future)
                if error := future.exception():
                    if others := sorted(task.name for task in running.values()):
                        say(f"  {finished.name} failed; still running: {', '.join(others)}")
                    raise error
                done.add(finished.name)
