"""Triton in a facility: whose model a request is for, and how XGBoost models run.

`front` runs in an interpreter of its own; `model` in that of Triton's Python backend.
"""
