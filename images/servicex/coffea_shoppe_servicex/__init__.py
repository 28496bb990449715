"""The facility's ServiceX, with the REST API of the stock ServiceX client.

A transform request names files and a query.  Transformers read the files, through the
facility's cache if it has one, and write one object with the selected columns per file,
which the client downloads.  `docs/explanation/servicex.md` explains how the parts work
together.
"""
