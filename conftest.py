"""Every run of pytest chooses and orders its tests by the plugin of `shoppe_ci`."""

pytest_plugins = ["shoppe_ci.collection"]
