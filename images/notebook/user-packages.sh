# What `pip install` puts into the home takes precedence over the image's packages, as in kernels.
# The server itself does not read it, so that no package there keeps it from starting.
export PYTHONPATH="$HOME/.local/lib/python3.11/site-packages"
export PATH="$HOME/.local/bin:$PATH"
