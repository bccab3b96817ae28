"""The content of the four registration forms of the maternal programme.

Builders that make form JSON from plain strings. The story and the templates of mass data both use them, so that both always
have the same shape.
"""

from dataclasses import dataclass
from typing import Any

from demo_commcare.programme.journal import case_block, index_to

Json = dict[str, Any]


@dataclass(frozen=True)
class Event:
    """The user, the instant and the case of a submission."""

    case_id: str
    user_id: str
    at_us: int
    owner_id: str


def household(
    event: Event,
    head: str,
    village: str,
    ward: str,
    phone: str,
    water: str,
    toilet: str,
    total: str,
    gps: str,
    code: str,
) -> Json:
    update = {
        "village": village, "ward": ward, "phone": phone, "water_sources": water, "has_toilet": toilet, "members_total": total,
        "house_gps": gps, "household_code": code,
    }  # fmt: skip
    return {
        "house_gps": gps,
        "head_name": head,
        "address": {"village": village, "ward": ward, "landmark": ""},
        "phone": phone,
        "water_sources": water,
        "has_toilet": toilet,
        "members_total": total,
        "household_code": code,
        "case": _created(event, "household", head, update),
    }


def woman(event: Event, household_id: str, name: str, age: str, dob: str, languages: str, phone: str) -> Json:
    update = {"age": age, "dob": dob, "languages": languages, "phone": phone}
    block = _created(event, "mother", name, update, index={"parent": index_to(household_id, "household")})
    return {"name": name, "age": age, "dob": dob, "languages": languages, "phone": phone, "case": block}


def pregnancy(
    event: Event,
    mother_id: str,
    name: str,
    lmp: str,
    edd: str,
    gravida: str,
    parity: str,
    trouble: str,
    height: str,
    blood: str,
) -> Json:
    """The form updates the mother (`case`) and creates the pregnancy (`subcase_0.case`) as her extension case."""
    history = {"gravida": gravida, "parity": parity, "complications": trouble}
    update = {"lmp": lmp, "edd": edd, **history, "height_cm": height, "blood_group": blood}
    index = {"host": index_to(mother_id, "mother", extension=True)}
    return {
        "lmp": lmp,
        "edd": edd,
        "history": history,
        "height_cm": height,
        "blood_group": blood,
        "consent": "OK",
        "subcase_0": {"case": _created(event, "pregnancy", name, update, index)},
    }


def child(event: Event, mother_id: str, name: str, dob: str, sex: str, weight: str) -> Json:
    update = {"dob": dob, "sex": sex, "birth_weight_g": weight}
    block = _created(event, "child", name, update, {"parent": index_to(mother_id, "mother")})
    return {"name": name, "dob": dob, "sex": sex, "birth_weight_g": weight, "case": block}


def _created(event: Event, case_type: str, name: str, update: Json, index: Json | None = None) -> Json:
    create = {"case_type": case_type, "case_name": name, "owner_id": event.owner_id}
    return case_block(event.case_id, event.user_id, event.at_us, create, update, index)
