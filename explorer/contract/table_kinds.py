"""Which kinds of generated tables exist, and which column identifies a row of each?"""

from collections.abc import Mapping

KEY_BY_KIND: Mapping[str, str] = {"case_type": "case_id", "form": "form_id", "repeat": "repeat_id"}
