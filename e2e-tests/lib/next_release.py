"""A next release that the suite makes of the tree.

Every image has another tag, each database one additive migration, FacilityUser one more field, and
one chart one more value.
"""

import json
import re
import shutil
from pathlib import Path

from shoppe_ci import cluster as clusters
from shoppe_ci import images, release
from shoppe_ci.engine import Engine
from shoppe_ci.paths import CHARTS

VERSION = "99.0.0"
SUFFIX = "-next"
COLUMN = "next_release"
"""The column that each migration adds."""
FIELD = "nextRelease"
"""The new field of a FacilityUser's spec, and the new value of the chart `triton`."""
SITE = "/opt/venv/lib/python3.11/site-packages"
MIGRATIONS = {
    "hub": (f"{SITE}/jupyterhub/alembic", "users"),
    "mlflow": (f"{SITE}/mlflow/store/db_migrations", "experiments"),
    "servicex": (f"{SITE}/coffea_shoppe_servicex/migrations", "requests"),
}
"""Image → folder of its Alembic migrations, and the table that gets a column."""
ADD_MIGRATION = f'''
import sys
from pathlib import Path
from alembic.script import ScriptDirectory
folder, table = sys.argv[1:]
(head,) = ScriptDirectory(folder).get_heads()
Path(folder, "versions", "{COLUMN}.py").write_text(f"""
import sqlalchemy as sa
from alembic import op
revision, down_revision = "{COLUMN}", "{{head}}"
def upgrade():
    op.add_column("{{table}}", sa.Column("{COLUMN}", sa.String(), nullable=True))
""")
'''


def reference(name: str) -> str:
    """Return the next release's name of an image."""
    return images.reference(name) + SUFFIX


def push_images(engine: Engine, folder: Path) -> None:
    """Build the next images from the present ones, and push them to the local registry."""
    port = clusters.ensure_registry(engine)
    folder.mkdir()
    (folder / "add_migration.py").write_text(ADD_MIGRATION)
    for name, image in images.declared().items():
        if not image.values:
            continue
        lines = [f"FROM {images.reference(name)}", f"LABEL release={VERSION}"]
        if name in MIGRATIONS:
            user = engine.run("image", "inspect", "-f", "{{.Config.User}}", images.reference(name))
            where, table = MIGRATIONS[name]
            lines += ["USER root", "COPY add_migration.py /tmp/"]
            lines += [f"RUN python /tmp/add_migration.py {where} {table}", f"USER {user}"]
        (folder / "Dockerfile").write_text("\n".join(lines))
        engine.build("-t", reference(name), str(folder))
        images.push_reference(engine, reference(name), port)
        engine.run("rmi", reference(name))


def package(folder: Path) -> Path:
    """Return the next release's packaged chart."""
    charts = folder / "charts"
    shutil.copytree(CHARTS, charts, symlinks=True, ignore=shutil.ignore_patterns("tests"))
    for path in charts.glob("*/Chart.yaml"):
        path.write_text(re.sub(r"(?m)^( *version): .*$", rf"\1: {VERSION}", path.read_text()))
    for name, image in images.declared().items():
        for chart in {place.partition(":")[0] for place in image.values}:
            file = charts / chart / "values.yaml"
            repository = f"{images.registry_name()}/{name}"
            text = images.with_tag(file.read_text(), repository, images.tag(name) + SUFFIX)
            file.write_text(text)
    _edit(
        charts / "operator/templates/crds/facilityusers.yaml",
        "              username:\n",
        f"              {FIELD}:\n                type: string\n              username:\n",
    )
    _edit(charts / "triton/values.yaml", "# Triton itself.\n", f'{FIELD}: ""\n\n# Triton itself.\n')
    schema = charts / "triton/values.schema.json"
    content = json.loads(schema.read_text())
    content["properties"][FIELD] = {"type": "string"}
    schema.write_text(json.dumps(content))
    return release.package_chart(charts / release.UMBRELLA.name, folder)


def _edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert text.count(old) == 1, f"{file} has {text.count(old)} times {old!r}"
    file.write_text(text.replace(old, new))
