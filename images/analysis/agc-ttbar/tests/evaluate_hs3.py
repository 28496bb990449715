# /// script
# requires-python = "==3.11.*"
# dependencies = ["pyhs3==0.4.2"]
# ///
"""Evaluate an HS3 document with pyhs3, in an environment of that library's own.

    python evaluate_hs3.py hs3.json points.json

prints, for each point of the list in the second file and each channel, the logarithms of the
Poisson and of the constraint terms.
"""

import json
import sys
from pathlib import Path

import numpy as np
import pyhs3
import pytensor
import pytensor.tensor as pt
from pyhs3.context import Context


def main() -> None:
    document, points = (json.loads(Path(name).read_text()) for name in sys.argv[1:])
    workspace = pyhs3.Workspace(**document)
    data = {one["name"]: one["contents"] for one in document["data"]}
    names = list(points[0])
    symbols = [pt.dscalar(name) for name in names]
    channels = {}
    for channel in workspace.distributions:
        values = dict(zip(names, symbols, strict=True))
        observed = np.asarray(data[f"{channel.name}_data"], dtype=float)
        values[f"{channel.name}_observed"] = pt.constant(observed)
        context = Context(values)
        parts = (channel.likelihood(context), channel.extended_likelihood(context))
        terms = [pt.sum(pt.log(part)) for part in parts]
        # A channel does not depend on all parameters.
        channels[channel.name] = pytensor.function(symbols, terms, on_unused_input="ignore")
    terms_by_point = [
        {
            channel: [float(term) for term in evaluate(*(point[name] for name in names))]
            for channel, evaluate in channels.items()
        }
        for point in points
    ]
    print(json.dumps(terms_by_point))


if __name__ == "__main__":
    main()
