"""The demo's notebook runs in any facility: nothing in it names one."""

import re

import nbformat
from shoppe_ci.paths import ROOT

NOTEBOOK = ROOT / "images" / "analysis" / "agc-ttbar.ipynb"
NAMING = re.compile(
    r"\w+://|localhost|\b\d+\.\d+\.\d+\.\d+\b|:\d{4,5}\b|\.svc\b|\benviron\b|getenv|token|passw|secret|credential"
    r"|coffea.casa|cern|fnal|shoppe-|SHOPPE_",
    re.IGNORECASE,
)


def facility_names(text: str) -> list[str]:
    """Return what in a text is an address, a credential, or a facility's name."""
    return NAMING.findall(text)


def test_the_notebook_holds_no_address_no_token_and_no_facility_s_name() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(cells) >= 5
    assert {str(facility_names(cell.source)) for cell in notebook.cells} == {"[]"}
    assert not any(cell.outputs for cell in cells), "outputs may hold what the source does not"


def test_what_would_name_a_facility_is_seen() -> None:
    for line in (
        'client = Client("tcp://10.96.0.7:8786")',
        "os.environ['BEARER_TOKEN']",
        'deliver(spec, url="http://shoppe-servicex:5000")',
        "gateway = Gateway(address)  # coffea-casa",
        "af = 'UNL'; host = 'triton.svc'",
    ):
        assert facility_names(line), line
