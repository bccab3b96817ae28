"""How do the models that people and agents save become tables? As a dbt project of the tenant's own, built by a login of its own.

`files` writes the project and reads it back, `build` brings the tables up to date, `is_current` tells whether they are. Their SQL
was checked when it was saved, and is data: nothing of it is Jinja.
"""

from explorer.saved_models.build import BuiltModels, SavedModelsDbt, build, is_current
from explorer.saved_models.files import ModelFileInvalid, exported, imported, write_project

__all__ = [
    "BuiltModels",
    "ModelFileInvalid",
    "SavedModelsDbt",
    "build",
    "exported",
    "imported",
    "is_current",
    "write_project",
]
