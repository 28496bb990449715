"""The facility's delivery service: it speaks the REST contract of the stock ServiceX client.

A request names files and a selection; transformers read the files, through the
facility's cache where there is one, and write one object of selected columns for each;
the client fetches the objects.  `docs/explanation/servicex.md` tells how the parts play
together.
"""
