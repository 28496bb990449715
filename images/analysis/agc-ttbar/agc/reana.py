"""The analysis as a workflow of REANA: the input of `reana-client run`.

REANA (https://docs.reana.io/reference/reana-yaml/) runs each step in a container of its
own; the steps share a folder.
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from agc.samples import File, InputError, check_files

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
    """Write the workflow over `files` to a folder; return the written paths.

    Local files are copied into the folder, to be uploaded; URLs are kept.
    Raises `InputError` where a file is missing, listed twice, or two have the same name.
    """
    if not image:
        raise InputError("set --image to the image of the analysis, in which REANA runs it")
    check_files(files)
    folder.mkdir(parents=True, exist_ok=True)
    fileset: dict[str, dict[str, dict[str, Any]]] = {}
    uploaded: list[str] = []
    for file in files:
        path = file.path
        if "://" not in path:
            path = f"data/{Path(path).name}"
            if path in uploaded:
                raise InputError(f"{file.path}: another input has the same file name; rename one")
            _copy(Path(file.path), folder / path)
            uploaded.append(path)
        variations = fileset.setdefault(file.sample.process, {})
        entry = variations.setdefault(file.sample.variation, {"files": []})
        entry["files"].append({"path": path, "nevts": file.events})
    workflow = specification(
        [FILESET, *uploaded], image=image, weights=weights, chunk_size=chunk_size
    )
    (folder / FILESET).write_text(json.dumps(fileset, indent=2) + "\n")
    (folder / SPECIFICATION).write_text(yaml.safe_dump(workflow, sort_keys=False))
    return [folder / name for name in (SPECIFICATION, FILESET, *uploaded)]


def _copy(source: Path, target: Path) -> None:
    if not source.is_file():
        raise InputError(f"{source}: no such file")
    target.parent.mkdir(exist_ok=True)
    shutil.copyfile(source, target)
