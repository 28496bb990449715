from typing import Any

from rendering import containers, pod_specs


def test_pods_are_what_the_restricted_level_asks_for(manifests: list[Any]) -> None:
    checked = 0
    for name, _, spec in pod_specs(manifests):
        context = spec["securityContext"]
        assert context["runAsNonRoot"] is True, name
        assert context["runAsUser"] > 0, name
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}, name
        for key in ("hostNetwork", "hostPID", "hostIPC"):
            assert key not in spec, name
        allowed = {"configMap", "secret", "emptyDir", "persistentVolumeClaim", "projected"}
        for volume in spec.get("volumes", []):
            assert set(volume) - {"name"} <= allowed, (name, volume)
        checked += 1
    assert checked


def test_containers_may_do_nothing_and_write_nowhere(manifests: list[Any]) -> None:
    for name, container in containers(manifests):
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False, name
        assert context["readOnlyRootFilesystem"] is True, name
        assert context["capabilities"] == {"drop": ["ALL"]}, name
