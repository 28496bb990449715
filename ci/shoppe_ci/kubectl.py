"""kubectl with one kubeconfig file, or with the user's own."""

import json
import subprocess
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import yaml

from shoppe_ci import shell, toolchain, unreachable
from shoppe_ci.errors import ShoppeError


class Kubectl(ABC):
    """Access to a cluster; a subclass says which kubeconfig file it uses."""

    @property
    @abstractmethod
    def kubeconfig(self) -> Path | None:
        """Return the kubeconfig file; None for kubectl's own choice."""

    def _variables(self) -> dict[str, str]:
        return {"KUBECONFIG": str(self.kubeconfig)} if self.kubeconfig else {}

    def kubectl(self, *words: str, **options: Any) -> str:
        """Run kubectl against this cluster and return its output."""

        def run() -> str:
            return shell.run(
                [toolchain.program("kubectl"), *words], env=self._variables(), **options
            )

        return unreachable.repeated(run)

    def apply(self, *manifests: dict[str, Any]) -> None:
        """Create or change objects."""
        self.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(manifests).encode())

    def get(self, *words: str) -> dict[str, Any]:
        """Return what `kubectl get … -o json` prints; with `--ignore-not-found` maybe {}."""
        command = [str(toolchain.program("kubectl")), "get", *words, "-o", "json"]
        printed = unreachable.repeated(lambda: shell.output(command, env=self._variables()))
        resource: dict[str, Any] = json.loads(printed or "{}")
        return resource

    def pipe(
        self, *words: str, source: BinaryIO | None = None, target: BinaryIO | None = None
    ) -> None:
        """Run `kubectl exec` with files as its input and output.

        Raises `ShoppeError` with the last lines of its error output where it fails.
        """
        done = subprocess.run(
            [str(toolchain.program("kubectl")), "exec", *(["-i"] if source else []), *words],
            env=shell.environment(self._variables()),
            stdin=source or subprocess.DEVNULL,
            stdout=target or subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            check=False,
        )
        if done.returncode:
            reason = done.stderr.decode(errors="replace").strip().splitlines()[-5:]
            raise ShoppeError(f"kubectl exec {' '.join(words[:4])}: " + "\n".join(reason))


@dataclass(frozen=True)
class Access(Kubectl):
    """A cluster that somebody else created."""

    file: Path | None = None

    @property
    def kubeconfig(self) -> Path | None:
        """Return the kubeconfig file; None for kubectl's own choice."""
        return self.file
