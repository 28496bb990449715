"""The facility's operator and its API.

Layers, each importing those below it only: handlers and api; services; builders and
storage; keys; models.
"""
