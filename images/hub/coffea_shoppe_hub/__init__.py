"""The facility's JupyterHub: its configuration, and users of the hub as users of the facility."""
