"""Models as a user's notebook registers, serves and asks them."""

from shoppe_ci.facility import User

from lib.fixtures import run_code

REGISTER = """
import mlflow, numpy as np, xgboost
from mlflow.models import infer_signature
import coffea_shoppe as shoppe
def register(seed, features=5, name="bdt", form="ubj", trees=40):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(2000, features)).astype("float32")
    booster = xgboost.train({"objective": "binary:logistic", "max_depth": 4},
                            xgboost.DMatrix(rows, rows[:, 0] > 0), trees)
    signature = infer_signature(rows, booster.inplace_predict(rows))
    with mlflow.start_run():
        logged = mlflow.xgboost.log_model(
            booster, name="model", model_format=form, registered_model_name=name,
            signature=signature, pip_requirements=["xgboost-cpu"])
    return booster, str(logged.registered_model_version)
def infer(name, rows):
    import tritonclient.grpc as triton
    address, headers = shoppe.triton()
    with triton.InferenceServerClient(address) as client:
        tensor = triton.InferInput("input__0", rows.shape, "FP32")
        tensor.set_data_from_numpy(rows)
        result = client.infer(name, [tensor], headers=headers)
        return result.as_numpy("output__0")[:, -1]
def tell(*what): print(">", *what)
def said(call):
    try: return call()
    except Exception as error: return f"{type(error).__name__}: {error}"
rows = np.random.default_rng(7).normal(size=(1000, 5)).astype("float32")
"""
SERVE = f"""{REGISTER}
booster, version = register(1)
mlflow.MlflowClient().set_registered_model_alias("bdt", "prod", version)
one = shoppe.serve("models:/bdt@prod")
tell(one.model, one.version, one.ready)
tell(abs(infer(one.model, rows) - booster.inplace_predict(rows)).max())
"""


def printed_lines(output: str) -> list[str]:
    """Return the lines that a cell printed with `tell`, without the output of libraries."""
    return [line.removeprefix("> ") for line in output.splitlines() if line.startswith("> ")]


def serve_first(user: User) -> str:
    """Have a new user register and serve a model; return its name in Triton."""
    first, difference = printed_lines(run_code(user, SERVE))
    name, version, ready = first.split()
    assert (version, ready) == ("1", "True")
    assert float(difference) == 0.0
    return name
