"""The events of the child-nutrition programme: about 250 cases, homes and their children, with follow-up visits."""

from datetime import date, timedelta
from typing import Any

from demo_commcare.clock import midnight
from demo_commcare.programme import nutrition_apps as apps
from demo_commcare.programme.journal import SECOND_US, Journal, case_block, index_to
from demo_commcare.programme.names import CHILDREN, MEN, REGIONS_FR
from demo_commcare.programme.people import People
from demo_commcare.records import FormRecord

Json = dict[str, Any]


def nutrition_story(domain: str, seed: int, people: People, homes: int = 84) -> list[FormRecord]:
    """All submissions, oldest first."""
    journal = Journal(domain, seed)
    app = apps.nutrition_apps()[0]
    workers = [user for user in people.users if user["is_active"]]
    for number in range(homes):
        user = workers[number % len(workers)]
        at_us = midnight(date(2025, 2, 3) + timedelta(days=number)) + (28_800 + number * 7) * SECOND_US
        home_id = journal.new_id()
        commune = REGIONS_FR[number % 3][1]
        gps = f"12.{number:04d} -15.{number:04d} 20 5"
        create = {"case_type": "foyer", "case_name": f"{MEN[number % len(MEN)]}", "owner_id": user["id"]}
        block = case_block(home_id, user["id"], at_us, create, {"commune": commune, "position": gps})
        data: Json = {"chef": MEN[number % len(MEN)], "commune": commune, "position": gps, "case": block}
        journal.submit(apps.FOYER, app, data, at_us, user)
        for place in range(1 + number % 3):
            _child(journal, home_id, number * 3 + place, at_us + 3600 * SECOND_US, user)
    journal.records.sort(key=lambda record: record.received_us)
    return journal.records


def _child(journal: Journal, home_id: str, number: int, at_us: int, user: Json) -> None:
    app = apps.nutrition_apps()[0]
    child_id = journal.new_id()
    name = CHILDREN[number % len(CHILDREN)]
    born = str(date(2023, 1, 1) + timedelta(days=number * 5))
    measures = {
        "poids_kg": f"{6 + number % 5}.{number % 10}",
        "pb_mm": str(100 + number % 35),
        "oedeme": "aucun" if number % 4 else "leger",
    }
    create = {"case_type": "enfant", "case_name": name, "owner_id": user["id"]}
    update = {"naissance": born, "sexe": "fm"[number % 2], **measures}
    block = case_block(child_id, user["id"], at_us, create, update, {"parent": index_to(home_id, "foyer")})
    data: Json = {"nom": name, "naissance": born, "sexe": "fm"[number % 2], "mesures": measures, "case": block}
    journal.submit(apps.INSCRIPTION, app, data, at_us, user)
    if number % 2:
        _visit(journal, child_id, number, at_us + 14 * 86_400 * SECOND_US, user)


def _visit(journal: Journal, child_id: str, number: int, at_us: int, user: Json) -> None:
    app = apps.nutrition_apps()[0]
    day = str(date(2025, 3, 1) + timedelta(days=number))
    measures = {"poids_kg": f"{7 + number % 5}.{number % 10}", "pb_mm": str(108 + number % 35)}
    update = {**measures, "derniere_visite": day}
    if number % 5 == 0:
        extra: Json = {"oedeme": "severe", "note": "Transféré à l'hôpital"}
        block = case_block(child_id, user["id"], at_us, update={**update, "oedeme": "severe"})
        journal.submit(
            apps.SUIVI_HOSPITALIER, app, {"date_visite": day, **measures, **extra, "case": block}, at_us, user
        )
        return
    rations = [{"produit": "atpe", "sachets": "14"}, {"produit": "farine", "sachets": "2"}][: 1 + number % 2]
    healed = number % 3 == 0
    update["gueri"] = "oui" if healed else "non"
    data = {
        "date_visite": day,
        **measures,
        "rations": rations[0] if len(rations) == 1 else rations,
        "gueri": update["gueri"],
        "case": case_block(child_id, user["id"], at_us, update=update, close=healed),
    }
    journal.submit(apps.SUIVI_AMBULATOIRE, app, data, at_us, user)
