"""A physicist clones a repository, installs it in development, and runs it on Dask workers."""

import json
from collections.abc import Iterator

import pytest
from lib.fixtures import run_code
from shoppe_ci.facility import User

PREPARE = """
import os, subprocess, sys
from pathlib import Path

def run(*command, folder=Path.home()):
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout

origin, clone = Path.home() / "origin", Path.home() / "clone"
"""
INSTALL = f"""{PREPARE}
(origin / "my_selection").mkdir(parents=True)
(origin / "my_selection" / "__init__.py").write_text("value = 1\\n")
(origin / "pyproject.toml").write_text('''
[project]
name = "my-selection"
version = "1.0"
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
''')
run("git", "init", "--quiet", folder=origin)
run("git", "add", ".", folder=origin)
author = ["-c", "user.name=Ann", "-c", "user.email=ann@example.org"]
run("git", *author, "commit", "--quiet", "--message", "Select nothing", folder=origin)
run("git", "clone", "--quiet", str(origin), str(clone))
pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-build-isolation"]
run(*pip, "--editable", str(clone))
"""
ON_WORKERS = f"""{PREPARE}
import json
import coffea_shoppe as shoppe
import my_selection
from dask_gateway import Gateway

def value():
    import my_selection
    return my_selection.value

def versions():
    import sysconfig
    from importlib.metadata import distributions
    image = distributions(path=[sysconfig.get_path("purelib")])
    return {{distribution.name: distribution.version for distribution in image}}

with Gateway().new_cluster() as cluster:
    cluster.scale(1)
    client = cluster.get_client()
    client.wait_for_workers(1, timeout=180)
    shared = shoppe.share_environment(client)
    values = [my_selection.value, client.submit(value, pure=False).result(timeout=60)]
    (clone / "my_selection" / "__init__.py").write_text("value = 2\\n")
    shoppe.share_environment(client)
    values.append(client.submit(value, pure=False).result(timeout=60))
    (on_worker,) = client.run(versions).values()
print(json.dumps([shared, values, on_worker, versions()]))
"""
REMOVE = f"""{PREPARE}
import shutil
run(sys.executable, "-m", "pip", "uninstall", "--yes", "my-selection")
shutil.rmtree(origin); shutil.rmtree(clone)
"""


@pytest.fixture
def developer(ann: User) -> Iterator[User]:
    """A user who has a project in development in her home; it is removed afterwards."""
    run_code(ann, INSTALL, fresh=True)
    yield ann
    run_code(ann, REMOVE, fresh=True)


def test_a_project_in_development_runs_on_workers_and_is_shared_again(developer: User) -> None:
    printed = run_code(developer, ON_WORKERS, fresh=True)
    shared, values, on_worker, in_notebook = json.loads(printed.splitlines()[-1])
    assert shared == ["my-selection 1.0"]
    assert values == [1, 1, 2]
    # The notebook's image has the layers of the worker's, and tools.
    assert on_worker.items() <= in_notebook.items()
    assert {"pip", "jupyterlab_git"} <= in_notebook.keys() - on_worker.keys()


def test_compilers_and_copy_tools_are_at_hand(ann: User) -> None:
    printed = run_code(
        ann,
        "import subprocess, tempfile, pathlib\n"
        "folder = pathlib.Path(tempfile.mkdtemp())\n"
        "source = 'extern \"C\" int twice(int value) { return 2 * value; }'\n"
        "(folder / 'twice.cc').write_text(source)\n"
        "build = ['g++', '-shared', '-fPIC', '-o', 'twice.so', 'twice.cc']\n"
        "subprocess.run(build, cwd=folder, check=True)\n"
        "import ctypes\n"
        "print(ctypes.CDLL(str(folder / 'twice.so')).twice(21))\n"
        "for command in (['ssh', '-V'], ['xrdcp', '--version'], ['davix-get', '--version']):\n"
        "    subprocess.run(command, check=True, capture_output=True)\n",
    )
    assert printed.split() == ["42"]
