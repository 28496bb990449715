"""Triton in a facility: an authenticating reverse proxy, and the runner of XGBoost models.

`proxy` runs in a Python environment without Triton, `model` in Triton's Python backend.
"""
