"""What a notebook of the facility imports: connections, from its environment.

    import coffea_shoppe as shoppe

    shoppe.data_url("root://eospublic.cern.ch//eos/…/file.root")

Nothing here names a facility: addresses come from the environment that the
facility gives its pods.  Outside of a facility, data come from their origin.
"""

from coffea_shoppe.data import data_url

__all__ = ["data_url"]
