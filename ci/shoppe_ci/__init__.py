"""What the command ci/shoppe does."""
