"""A function that uses the object store as people do; its source is sent to where it runs."""


def sums_by_client(bucket: str, folder: str) -> dict[str, int]:
    """Write 1, 2, 3 below a folder of a bucket and read it again, by each client of S3.

    Returns CLIENT: SUM.  No client is given an address, a key or an option.
    """
    import tempfile

    import awkward as ak
    import boto3
    import numpy as np
    import pandas as pd
    import pyarrow.parquet as pq
    import requests
    import s3fs
    import uproot
    from pyarrow import fs

    numbers = np.array([1, 2, 3])
    files = s3fs.S3FileSystem()
    with tempfile.TemporaryDirectory() as local:
        with uproot.recreate(f"{local}/own.root") as file:
            file["Events"] = {"number": numbers}
        files.put(f"{local}/own.root", f"s3://{bucket}/{folder}/own.root")
    pd.DataFrame({"number": numbers}).to_parquet(f"s3://{bucket}/{folder}/own.parquet")
    table = f"{bucket}/{folder}/own.parquet"
    client = boto3.client("s3")
    where = {"Bucket": bucket, "Key": f"{folder}/own.parquet"}
    presigned = requests.get(client.generate_presigned_url("get_object", Params=where), timeout=30)
    presigned.raise_for_status()
    direct = client.get_object(**where)["Body"].read()
    arrow, path = fs.FileSystem.from_uri(f"s3://{table}")
    return {
        "boto3": int(direct == presigned.content) * 6,
        "pandas": int(pd.read_parquet(f"s3://{table}")["number"].sum()),
        "pyarrow": int(pq.read_table(path, filesystem=arrow)["number"].to_pandas().sum()),
        "awkward": int(ak.sum(ak.from_parquet(f"s3://{table}").number)),
        "uproot": int(
            ak.sum(uproot.open(f"s3://{bucket}/{folder}/own.root")["Events/number"].array())
        ),
        "s3fs": len(files.ls(f"s3://{bucket}/{folder}")) * 3,
    }
