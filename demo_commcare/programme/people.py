"""The workers, locations and lookup tables of a project space.

Values in the shapes of the user, web-user, group, location and lookup-table resources, without addresses.
"""

import hashlib
import random
from dataclasses import dataclass
from datetime import date
from typing import Any

from demo_commcare.clock import midnight, naive_iso
from demo_commcare.programme.names import REGIONS_FR, VILLAGES, WORKERS

Json = dict[str, Any]
_START_US = midnight(date(2025, 1, 1))


@dataclass
class People:
    """`users` carry the extra key `is_active`, `locations` the keys `type_id` and `parent_id`.

    The resources drop or translate these."""

    users: list[Json]
    web_users: list[Json]
    groups: list[Json]
    locations: list[Json]
    location_types: list[Json]
    lookup_tables: list[Json]
    lookup_table_items: list[Json]


def _hex(rng: random.Random) -> str:
    return f"{rng.getrandbits(128):032x}"


def _location(
    rng: random.Random, number: int, name: str, code: str, type_id: int, parent: Json | None, data: Json
) -> Json:
    stamp = _START_US + number * 1_000_003
    point = parent is not None and type_id % 10 == 3
    return {
        "id": number,
        "location_id": _hex(rng),
        "name": name,
        "site_code": code,
        "external_id": f"LGD-{number:04d}" if type_id % 10 != 1 else None,
        "created_at": naive_iso(stamp),
        "last_modified": naive_iso(stamp + 7_000_000),
        "latitude": f"{23 + number / 100:.10f}" if point else None,
        "longitude": f"{85 + number / 100:.10f}" if point else None,
        "location_data": data,
        "type_id": type_id,
        "parent_id": None if parent is None else parent["location_id"],
    }


def _location_type(number: int, name: str, code: str, parent: int | None, administrative: bool) -> Json:
    return {
        "id": number,
        "name": name,
        "code": code,
        "parent_id": parent,
        "administrative": administrative,
        "shares_cases": not administrative,
        "view_descendants": administrative,
    }


def _user(
    rng: random.Random,
    domain: str,
    worker: tuple[str, str, str],
    location: Json | None,
    active: bool,
    group: str | None,
) -> Json:
    name, first, last = worker
    phone = f"+9160000{rng.randrange(10000, 99999)}"
    location_ids = [] if location is None else [location["location_id"]]
    data = {"commcare_project": domain, "commcare_profile": "", "chw_id": f"13/{rng.randrange(10, 99)}/जिला"}
    if location is not None:
        data |= {
            "commcare_location_id": location["location_id"],
            "commcare_location_ids": location["location_id"],
            "commcare_primary_case_sharing_id": location["location_id"],
        }
    return {
        "id": _hex(rng),
        "username": f"{name}@{domain}.commcarehq.org",
        "first_name": first,
        "last_name": last,
        "default_phone_number": phone if first else None,
        "email": "",
        "phone_numbers": [phone] if first else [],
        "eulas": "[]",
        "groups": [] if group is None else [group],
        "user_data": data,
        "primary_location": location_ids[0] if location_ids else None,
        "locations": location_ids,
        "is_active": active,
    }


def web_user_id(username: str) -> str:
    """The id of an account, the same in all project spaces and in the identity resource."""
    return hashlib.md5(username.encode(), usedforsecurity=False).hexdigest()


def _web_user(rng: random.Random, email: str, role: str, location: Json | None, restricted: bool = False) -> Json:
    """`restricted`: the role sees only the data of its location."""
    admin = role == "Admin"
    # A number is drawn as for all others, though the id does not depend on it: what follows keeps its ids.
    _hex(rng)
    return {
        "id": web_user_id(email),
        "username": email,
        "first_name": email.split("@")[0].split(".")[0].title(),
        "last_name": "Demo",
        "default_phone_number": None,
        "email": email,
        "phone_numbers": [],
        "eulas": "[]",
        "role": role,
        "is_admin": admin,
        "permissions": {
            "access_all_locations": not restricted,
            "access_api": admin or role == "Data Officer",
            "edit_apps": admin,
            "edit_commcare_users": admin,
            "edit_data": role != "Read Only",
            "edit_web_users": admin,
            "view_reports": True,
        },
        "primary_location_id": None if location is None else location["location_id"],
        "assigned_location_ids": [] if location is None else [location["location_id"]],
        "profile": None,
        "user_data": {},
        "tableau_role": None,
        "is_active_in_domain": True,
    }


def _group(rng: random.Random, domain: str, name: str, sharing: bool) -> Json:
    return {
        "id": _hex(rng),
        "domain": domain,
        "name": name,
        "users": [],
        "case_sharing": sharing,
        "reporting": True,
        "metadata": {},
    }


def _table(rng: random.Random, tag: str, fields: dict[str, list[str]], attributes: list[str], global_: bool) -> Json:
    return {
        "id": _hex(rng),
        "tag": tag,
        "is_global": global_,
        "fields": [{"field_name": name, "properties": properties} for name, properties in fields.items()],
        "item_attributes": attributes,
    }


def _item(rng: random.Random, table: Json, key: int, attributes: Json, **fields: list[tuple[str, Json]]) -> Json:
    return {
        "id": _hex(rng),
        "data_type_id": table["id"],
        "fields": {
            name: {"field_list": [{"field_value": value, "properties": properties} for value, properties in values]}
            for name, values in fields.items()
        },
        "item_attributes": attributes,
        "sort_key": key,
    }


def maternal_people(domain: str, seed: int) -> People:
    """Twelve mobile workers (two deactivated), four web users, two groups, 1 + 3 + 12 locations, two lookup tables."""
    rng = random.Random(f"people/{domain}/{seed}")
    types = [
        _location_type(11, "District", "district", None, True),
        _location_type(12, "Block", "block", 11, True),
        _location_type(13, "Village", "village-site", 12, False),
    ]
    district = _location(rng, 1, "Ranchi", "ranchi", 11, None, {})
    blocks = [
        _location(rng, 2 + n, name, name.lower(), 12, district, {})
        for n, name in enumerate(("Ormanjhi", "Kanke", "बुढ़मू"))
    ]
    villages = [
        _location(rng, 5 + n, name, code, 13, blocks[n % 3], {"population": str(400 + 37 * n)})
        for n, (code, name) in enumerate(VILLAGES)
    ]
    groups = [_group(rng, domain, "Ormanjhi workers", True), _group(rng, domain, "All supervisors", False)]
    users = [
        _user(
            rng,
            domain,
            worker,
            villages[n] if n < 8 else None,
            worker[0] not in {"left.programme", "old.phone"},
            groups[0]["id"] if n < 5 else groups[1]["id"] if "supervisor" in worker[0] else None,
        )
        for n, worker in enumerate(WORKERS)
    ]
    for group in groups:
        group["users"] = [user["id"] for user in users if group["id"] in user["groups"] and user["is_active"]]
    web_users = [
        _web_user(rng, "demo@example.org", "Admin", None),
        _web_user(rng, "data.officer@example.org", "Data Officer", district),
        _web_user(rng, "reader@example.org", "Read Only", None),
        # With its own numbers, so that what follows stays as it is.
        _web_user(
            random.Random(f"supervisor/{domain}/{seed}"), "supervisor@example.org", "Block Supervisor", blocks[0], True
        ),
    ]
    vaccines = _table(rng, "vaccines", {"code": [], "name": ["lang"]}, [], True)
    facilities = _table(rng, "facilities", {"name": [], "beds": []}, ["level"], False)
    items = [
        _item(rng, vaccines, n, {}, code=[(code, {})], name=[(en, {"lang": "en"}), (fr, {"lang": "fr"})])
        for n, (code, en, fr) in enumerate(
            (("bcg", "BCG", "BCG"), ("opv0", "OPV 0", "VPO 0"), ("hepb", "Hepatitis B", "Hépatite B"))
        )
    ]
    items += [
        _item(rng, facilities, n, {"level": level}, name=[(name, {})], beds=[(beds, {})])
        for n, (name, beds, level) in enumerate(
            (("PHC Ormanjhi", "6", "primary"), ("Sadar Hospital", "120", "district"))
        )
    ]
    return People(users, web_users, groups, [district, *blocks, *villages], types, [vaccines, facilities], items)


def nutrition_people(domain: str, seed: int) -> People:
    """Five mobile workers (one deactivated), two web users, one group, 1 + 1 + 3 locations, one lookup table."""
    rng = random.Random(f"people/{domain}/{seed}")
    types = [
        _location_type(21, "Pays", "pays", None, True),
        _location_type(22, "Région", "region", 21, True),
        _location_type(23, "Commune", "commune", 22, False),
    ]
    country = _location(rng, 101, "Sénégal", "senegal", 21, None, {})
    region = _location(rng, 102, "Casamance", "casamance", 22, country, {})
    communes = [_location(rng, 103 + n, name, code, 23, region, {}) for n, (code, name) in enumerate(REGIONS_FR)]
    group = _group(rng, domain, "Équipe mobile", False)
    workers = (
        ("awa", "Awa", "Sarr"),
        ("binta", "Binta", "Sow"),
        ("cheikh", "Cheikh", "Fall"),
        ("dado", "Dado", "Ly"),
        ("parti", "Élie", "Sy"),
    )
    users = [
        _user(rng, domain, worker, communes[n % 3], worker[0] != "parti", group["id"])
        for n, worker in enumerate(workers)
    ]
    group["users"] = [user["id"] for user in users if user["is_active"]]
    products = _table(rng, "produits", {"code": [], "nom": []}, [], True)
    items = [
        _item(rng, products, n, {}, code=[(code, {})], nom=[(name, {})])
        for n, (code, name) in enumerate((("atpe", "Aliment thérapeutique"), ("farine", "Farine enrichie")))
    ]
    return People(
        users,
        [
            _web_user(rng, "demo@example.org", "Admin", None),
            _web_user(rng, "data.officer@example.org", "Data Officer", None),
        ],
        [group],
        [country, region, *communes],
        types,
        [products],
        items,
    )
