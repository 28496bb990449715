"""A user's notes are the user's own."""

from lib.fixtures import run_code
from shoppe_ci.facility import User

CODE = """
import coffea_shoppe as shoppe, requests
headers = {"Authorization": "Bearer " + shoppe.token("toy")}
url = shoppe.connections()["toy"] + "/notes/first"
print(requests.put(url, "muons", headers=headers, timeout=30).status_code)
print(requests.get(url, headers=headers, timeout=30).text)
print(requests.get(url, timeout=30).status_code)
"""


def test_a_user_reads_a_note_with_a_token_only(ann: User) -> None:
    assert run_code(ann, CODE).split() == ["201", "muons", "401"]
