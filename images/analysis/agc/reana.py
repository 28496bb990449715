"""The analysis as a workflow of REANA: the files that `reana-client run` takes.

REANA (https://docs.reana.io/reference/reana-yaml/) starts each step in a container of its
own, in a folder that they share.
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from agc.samples import File, InputError

SPECIFICATION = "reana.yaml"
FILESET = "fileset.json"
MEMORY = "4Gi"
STEPS = {
    "run": (
        f"agc run --fileset {FILESET} --no-cache --weights ${{weights}}"
        " --chunk-size ${chunk_size} --output histograms.root --report report.json",
    ),
    "plot": ("agc plot histograms.root --weights ${weights} --output plots",),
    "fit": ("agc fit histograms.root --output fit",),
}
"""Commands by step; `${NAME}` is a parameter of the workflow."""
RESULTS = {
    "files": ["histograms.root", "report.json", "report.html"],
    "directories": ["plots", "fit"],
}


def specification(inputs: Sequence[str], *, image: str, **parameters: Any) -> dict[str, Any]:
    """Return the workflow over uploaded `inputs`, its steps in containers of `image`."""
    steps = [
        {
            "name": name,
            "environment": image,
            "kubernetes_memory_limit": MEMORY,
            "commands": list(commands),
        }
        for name, commands in STEPS.items()
    ]
    return {
        "inputs": {"files": list(inputs), "parameters": parameters},
        "workflow": {"type": "serial", "specification": {"steps": steps}},
        "outputs": RESULTS,
    }


def export(
    files: Sequence[File],
    folder: Path,
    *,
    image: str,
    weights: str = "xsec",
    chunk_size: int = 200_000,
) -> list[Path]:
    """Write the workflow over `files` to a folder; return what was written.

    Files of this machine are copied beside it, to be uploaded; URLs stay what they are.
    Raises `InputError` where a file is missing or two have the same name.
    """
    if not image:
        raise InputError("give the --image of the analysis that REANA is to run")
    folder.mkdir(parents=True, exist_ok=True)
    listed: dict[str, dict[str, dict[str, Any]]] = {}
    uploaded: list[str] = []
    for file in files:
        path = file.path
        if "://" not in path:
            path = f"data/{Path(path).name}"
            if path in uploaded:
                raise InputError(f"{file.path}: another file of that name is uploaded already")
            _copy(Path(file.path), folder / path)
            uploaded.append(path)
        variations = listed.setdefault(file.sample.process, {})
        entry = variations.setdefault(file.sample.variation, {"files": []})
        entry["files"].append({"path": path, "nevts": file.events})
    told = specification([FILESET, *uploaded], image=image, weights=weights, chunk_size=chunk_size)
    (folder / FILESET).write_text(json.dumps(listed, indent=2) + "\n")
    (folder / SPECIFICATION).write_text(yaml.safe_dump(told, sort_keys=False))
    return [folder / name for name in (SPECIFICATION, FILESET, *uploaded)]


def _copy(source: Path, target: Path) -> None:
    if not source.is_file():
        raise InputError(f"{source}: no such file")
    target.parent.mkdir(exist_ok=True)
    shutil.copyfile(source, target)
