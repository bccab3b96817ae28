"""The events of the maternal-health programme during 2025.

Households are registered, women found, pregnancies followed, children born, referrals made: one submission after the
other. Everything follows from the seed. The questions are in `maternal_apps`, the four registrations in
`registrations`.
"""

from datetime import date, timedelta
from typing import Any

from demo_commcare.clock import DAY_US, iso, midnight
from demo_commcare.programme import maternal_apps as apps
from demo_commcare.programme import registrations
from demo_commcare.programme.app_model import App, Form
from demo_commcare.programme.journal import SECOND_US, Journal, case_block, index_to
from demo_commcare.programme.names import CHILDREN, MEN, VILLAGES, WOMEN
from demo_commcare.programme.people import People
from demo_commcare.programme.registrations import Event
from demo_commcare.records import FormRecord

Json = dict[str, Any]
START = date(2025, 1, 6)
DEFAULT_HOUSEHOLDS = 60


def maternal_story(domain: str, seed: int, people: People, households: int = DEFAULT_HOUSEHOLDS) -> list[FormRecord]:
    """All submissions, oldest first. 60 households give about 370 cases and 900 forms."""
    story = _Story(domain, seed, people)
    for number in range(households):
        story.household(number)
    story.supervision(max(6, households // 2))
    story.imports()
    story.journal.records.sort(key=lambda record: record.received_us)
    return story.journal.records


class _Story:
    def __init__(self, domain: str, seed: int, people: People) -> None:
        self.journal = Journal(domain, seed)
        self.rng = self.journal.rng
        self.register, self.survey_app = apps.maternal_apps()
        self.workers = people.users[:8]
        self.supervisors = people.users[8:10]
        self.left = people.users[10]
        self.children: list[str] = []
        self.anc_count = 0
        self.survey_instant_us = midnight(date(2025, 11, 20)) + 5 * 3600 * SECOND_US + 123_000

    def household(self, number: int) -> None:
        """One household and everything that follows from it."""
        day = START + timedelta(days=self.rng.randrange(0, 120))
        user = self.left if number % 16 == 9 else self.workers[number % len(self.workers)]
        at_us = self._at(day)
        event = Event(self.journal.new_id(), user["id"], at_us, self._owner(user))
        village, _ = VILLAGES[number % len(VILLAGES)]
        phone = "" if number % 7 == 0 else f"+9170000{self.rng.randrange(10000, 99999)}"
        water = " ".join(self.rng.sample([code for code, _ in apps.WATER], self.rng.randrange(1, 4)))
        data = registrations.household(
            event, f"{MEN[number % len(MEN)]} {number + 1}", village, f"W-{number % 9}", phone, water,
            self.rng.choice(["yes", "no"]), str(self.rng.randrange(2, 11)), self._gps(), f"{village}-{number:04d}",
        )  # fmt: skip
        women, data["women"] = self._women_repeat(event, number)
        if number % 11 == 0:
            data["house_photo"] = f"house_{number}.jpg"
        images = (data["house_photo"],) if "house_photo" in data else ()
        if not women:
            del data["women"]
        self._submit(apps.HOUSEHOLD, data, at_us, user, images)
        if number % 3 == 2:
            self._separate_woman(event.case_id, number, day, user, women)
        for place, (mother_id, mother_name) in enumerate(women):
            self._mother(mother_id, mother_name, number * 3 + place, day, user)
        self._survey(event.case_id, number)

    def _women_repeat(self, event: Event, number: int) -> tuple[list[tuple[str, str]], Any]:
        """No woman, one (a dict) or several (a list), with a repeat of earlier births inside; each woman is a case."""
        women: list[tuple[str, str]] = []
        rows = []
        for place in range((1, 2, 0, 1, 3, 1)[number % 6]):
            case_id, name = self.journal.new_id(), WOMEN[(number * 2 + place) % len(WOMEN)]
            age = self.rng.randrange(17, 42)
            dob = "---" if number % 23 == 5 else str(START - timedelta(days=age * 365 + 40))
            row: Json = {"woman_name": name, "woman_age": "34.5" if number % 19 == 4 else str(age), "woman_dob": dob}
            births = [
                {"birth_year": str(2024 - gap * 2), "birth_outcome": self.rng.choice(["live", "live", "still"])}
                for gap in range((number + place) % 3)
            ]
            if births:
                row["births"] = births[0] if len(births) == 1 else births
            create = {"case_type": "mother", "case_name": name, "owner_id": event.owner_id}
            update = {"age": row["woman_age"], "dob": dob, "village": VILLAGES[number % len(VILLAGES)][0]}
            index = {"parent": index_to(event.case_id, "household")}
            row["case"] = case_block(case_id, event.user_id, event.at_us, create, update, index)
            rows.append(row)
            women.append((case_id, name))
        return women, rows[0] if len(rows) == 1 else rows

    def _separate_woman(
        self, household_id: str, number: int, day: date, user: Json, women: list[tuple[str, str]]
    ) -> None:
        at_us = self._at(day + timedelta(days=3))
        event = Event(self.journal.new_id(), user["id"], at_us, self._owner(user))
        name = WOMEN[(number * 5 + 3) % len(WOMEN)]
        data = registrations.woman(
            event, household_id, name, str(18 + number % 20), f"{2007 - number % 20}-03-0{1 + number % 9}", "hi fr", ""
        )
        self._submit(apps.WOMAN, data, at_us, user)
        women.append((event.case_id, name))

    def _mother(self, mother_id: str, name: str, number: int, day: date, user: Json) -> None:
        if number % 2 == 0:
            at_us = self._at(day + timedelta(days=9))
            update = {"phone": f"+9180000{number:05d}", "bank_account": "yes" if number % 4 else "no", "literate": "no"}
            update["remarks"] = "टीका के लिए आई थी\nदूसरी पंक्ति" if number % 6 == 0 else ""
            data = {**update, "case": case_block(mother_id, user["id"], at_us, update=update, empty=("create",))}
            self._submit(apps.PROFILE, data, at_us, user)
        if number % 7 != 6:
            self._pregnancy(mother_id, name, number, day + timedelta(days=12), user)

    def _pregnancy(self, mother_id: str, name: str, number: int, day: date, user: Json) -> None:
        lmp = day - timedelta(days=self.rng.randrange(50, 120))
        at_us = self._at(day)
        event = Event(self.journal.new_id(), user["id"], at_us, self._owner(user))
        data = registrations.pregnancy(
            event, mother_id, f"{name} {lmp.year}", str(lmp), str(lmp + timedelta(days=280)), str(1 + number % 5),
            str(number % 4), "none" if number % 3 else "bleeding fever", f"{148 + number % 17}.{number % 10}",
            ("a", "b", "ab", "o", "unknown")[number % 5],
        )  # fmt: skip
        data["case"] = case_block(mother_id, user["id"], at_us, empty=("create", "update"))
        self._submit(apps.PREGNANCY, data, at_us, user)
        for visit in range(2 + number % 4):
            self._anc(event.case_id, visit, lmp, day + timedelta(days=28 * (visit + 1)), user)
        if number % 4 != 3:
            self._delivery(event.case_id, mother_id, number, lmp + timedelta(days=self.rng.randrange(259, 288)), user)

    def _anc(self, pregnancy_id: str, visit: int, lmp: date, day: date, user: Json) -> None:
        self.anc_count += 1
        odd = self.anc_count
        at_us = self._at(day)
        weight = f"{46 + self.rng.random() * 25:.1f}"
        weeks = "34.5" if odd % 29 == 3 else str((day - lmp).days // 7)
        signs = "none" if odd % 4 else " ".join(self.rng.sample(["bleeding", "fever", "headache", "swelling"], 2))
        visit_date = "---" if odd % 37 == 8 else str(day)
        notes = {5: "avant\u0000après", 6: 'she said "well", \\ and left', 7: "सब ठीक है 🙂", 8: " "}.get(odd % 40, "")
        exam: Json = {
            "weight_kg": weight,
            "gestation_weeks": weeks,
            "bp": {"systolic": str(100 + odd % 60), "diastolic": str(60 + odd % 35)},
            "haemoglobin": "" if odd % 9 == 0 else f"{8 + odd % 6}.{odd % 10}",
            "exam_time": f"{8 + odd % 9:02d}:30:00.000+05:30",
        }
        update = {
            "last_visit": visit_date, "visit_no": str(visit + 1), "weight_kg": weight, "gestation_weeks": weeks,
            "danger_signs": signs,
            "risk_score": "0" if signs == "none" else "5", "haemoglobin": exam["haemoglobin"], "notes": notes,
        }  # fmt: skip
        data: Json = {
            "visit_date": visit_date,
            "visit_no": str(visit + 1),
            "next_visit": iso(at_us + 28 * DAY_US),
            "exam": exam,
            "danger_signs": signs,
        }
        medicines = [
            {"medicine": code, "tablets": str(30 * (n + 1))} for n, (code, _) in enumerate(apps.MEDICINES[: odd % 4])
        ]
        if medicines:
            data["medicines"] = medicines[0] if len(medicines) == 1 else medicines
        data |= {
            "risk_score": update["risk_score"],
            "refer": "no" if signs == "none" or odd % 8 else "yes",
            "notes": notes,
        }
        if data["refer"] == "yes":
            data["referral"] = self._referral(pregnancy_id, day, at_us, user)
        data["case"] = case_block(pregnancy_id, user["id"], at_us, update=update)
        self._submit(apps.ANC, data, at_us, user, archived=odd % 41 == 13 and data["refer"] == "no")

    def _referral(self, pregnancy_id: str, day: date, at_us: int, user: Json) -> Json:
        """A case made by a save-to-case question deep inside the form, with a follow-up two weeks later."""
        case_id = self.journal.new_id()
        update = {"facility": self.rng.choice(["phc", "dh"]), "reason": "danger signs", "referred_on": str(day)}
        create = {"case_type": "referral", "case_name": f"Referral {day}", "owner_id": self._owner(user)}
        index = {"parent": index_to(pregnancy_id, "pregnancy")}
        self._follow_up(case_id, day + timedelta(days=14), user)
        block = case_block(case_id, user["id"], at_us, create, update, index)
        return {"facility": update["facility"], "reason": update["reason"], "referral_save": {"case": block}}

    def _follow_up(self, referral_id: str, day: date, user: Json) -> None:
        at_us = self._at(day)
        update = {"reached": self.rng.choice(["yes", "no"]), "treatment": "Fer intraveineux, repos"}
        block = case_block(referral_id, user["id"], at_us, update=update, close=True)
        self._submit(apps.FOLLOW_UP, {**update, "case": block}, at_us, user)

    def _delivery(self, pregnancy_id: str, mother_id: str, number: int, day: date, user: Json) -> None:
        at_us = self._at(day)
        babies = []
        born: list[str] = []
        for place in range(2 if number % 9 == 4 else 1):
            name = CHILDREN[(number + place) % len(CHILDREN)]
            sex, weight = self.rng.choice(["f", "m"]), str(self.rng.randrange(1800, 4100))
            row: Json = {
                "baby_name": name,
                "sex": sex,
                "birth_weight_g": weight,
                "outcome": "still" if number % 13 == 7 else "live",
            }
            if row["outcome"] == "live":
                case_id = self.journal.new_id()
                create = {"case_type": "child", "case_name": name, "owner_id": self._owner(user)}
                update = {"dob": str(day), "sex": sex, "birth_weight_g": weight}
                index = {"parent": index_to(mother_id, "mother")}
                row["case"] = case_block(case_id, user["id"], at_us, create, update, index)
                born.append(case_id)
            babies.append(row)
        data = {
            "delivery_date": str(day),
            "place": self.rng.choice(["home", "facility"]),
            "delivery_gps": self._gps(),
            "babies": babies[0] if len(babies) == 1 else babies,
            "delivered_count": str(len(babies)),
            "case": case_block(pregnancy_id, user["id"], at_us, update={"delivery_date": str(day)}, close=True),
        }
        self._submit(apps.DELIVERY, data, at_us, user)
        for case_id in born:
            self._child_visits(case_id, mother_id, number, day, user)

    def _child_visits(self, child_id: str, mother_id: str, number: int, day: date, user: Json) -> None:
        for visit in range(1 + number % 3):
            self._pnc(child_id, mother_id, number + visit, day + timedelta(days=3 + 14 * visit), user)
        for visit in range(number % 4):
            self._growth(child_id, number + visit, day + timedelta(days=45 + 30 * visit), user)

    def _pnc(self, child_id: str, mother_id: str, number: int, day: date, user: Json) -> None:
        at_us = self._at(day)
        weight = str(2300 + number * 37 % 2500)
        check = {"mother_temperature": f"36.{number % 10}", "mother_signs": "none" if number % 5 else "fever"}
        check_block = case_block(mother_id, user["id"], at_us, update={"last_pnc": str(day)})
        data: Json = {
            "visit_date": str(day),
            "mother_check": {**check, "case": check_block},
            "breastfed": "yes" if number % 6 else "no",
            "weight_g": weight,
            "case": case_block(child_id, user["id"], at_us, update={"weight_g": weight, "last_visit": str(day)}),
        }
        images: tuple[str, ...] = ()
        if number % 8 == 3:
            data["cord_photo"] = f"{at_us // SECOND_US}.jpg"
            images = (data["cord_photo"],)
        self._submit(apps.PNC, data, at_us, user, images)

    def _growth(self, child_id: str, number: int, day: date, user: Json) -> None:
        at_us = self._at(day)
        weight = 3600 + number * 53 % 3000
        vaccines = " ".join(code for code, _ in apps.VACCINES[: 1 + number % 4])
        update = {
            "weight_g": str(weight),
            "muac_mm": str(105 + number % 40),
            "vaccines": vaccines,
            "last_visit": str(day),
        }
        data = {
            "visit_date": str(day), "weight_g": update["weight_g"], "muac_mm": update["muac_mm"], "vaccines": vaccines,
            "z_score": str(round(weight / 1000 - 4)), "child_pin": f"{number:04d}",
            "case": case_block(child_id, user["id"], at_us, update=update),
        }  # fmt: skip
        self._submit(apps.GROWTH, data, at_us, user)

    def _survey(self, household_id: str, number: int) -> None:
        """A model-iteration repeat; every second survey has the same index instant (ties)."""
        day = date(2025, 11, 3) + timedelta(days=number % 12)
        at_us = self._at(day)
        user = self.supervisors[number % 2]
        ids = [f"m{number}-{place}" for place in range(1 + number % 3)]
        items = [
            {
                "@id": key,
                "@index": str(place),
                "member_name": MEN[(number + place) % len(MEN)],
                "slept_under_net": "yes",
            }
            for place, key in enumerate(ids)
        ]
        water = "tap" if number % 2 else "pump well"
        members: Json = {"@ids": " ".join(ids), "@count": str(len(ids)), "@current_index": str(len(ids))}
        members["item"] = items[0] if len(items) == 1 else items
        update = {"bed_nets": str(number % 5), "water_sources": water}
        data = {
            "water_sources": water,
            "bed_nets": str(number % 5),
            "members": members,
            "income": str(3_000_000_000 if number == 7 else 4000 + number * 250),
            "case": case_block(household_id, user["id"], at_us, update=update),
        }
        tied = self.survey_instant_us if number % 2 else None
        self._submit(apps.SURVEY, data, at_us, user, app=self.survey_app, indexed_us=tied)

    def supervision(self, visits: int) -> None:
        """Forms without any case, with questions called `name`, `id` and `update`."""
        for number in range(visits):
            worker = self.workers[number % len(self.workers)]
            data = {
                "name": worker["first_name"],
                "id": worker["id"][:6].upper(),
                "scores": {
                    "records": "yes" if number % 3 else "no",
                    "stock": str(number % 12),
                    "update": "Registre complété",
                },
                "supervisor_gps": self._gps(),
            }
            day = START + timedelta(days=9 * number % 330)
            self._submit(apps.SUPERVISION, data, self._at(day), self.supervisors[number % 2], app=self.survey_app)

    def imports(self) -> None:
        """The server's own submissions: no application, several cases in one form."""
        at_us = midnight(date(2025, 11, 25)) + 9 * 3600 * SECOND_US
        user_id = self.supervisors[0]["id"]
        for batch in range(4):
            blocks = []
            for number in range(1 if batch == 0 else 3):
                create = {"case_type": "household", "case_name": f"Imported {batch}-{number}", "owner_id": user_id}
                update = {"village": "v12", "ward": "", "external_id": f"import-{batch}-{number}"}
                blocks.append(case_block(self.journal.new_id(), user_id, at_us, create, update))
            self.journal.submit_system(blocks, at_us + batch * 3600 * SECOND_US, user_id)

    def _submit(
        self,
        form: Form,
        data: Json,
        at_us: int,
        user: Json,
        images: tuple[str, ...] = (),
        archived: bool = False,
        app: App | None = None,
        indexed_us: int | None = None,
    ) -> None:
        self.journal.submit(form, app or self.register, data, at_us, user, images, archived, indexed_us)

    def _at(self, day: date) -> int:
        return midnight(day) + self.rng.randrange(3 * 3600, 13 * 3600) * SECOND_US + self.rng.randrange(1000) * 1000

    def _owner(self, user: Json) -> str:
        location: str | None = user["primary_location"]
        return location or user["id"]

    def _gps(self) -> str:
        latitude, longitude = 23 + self.rng.random(), 85 + self.rng.random()
        return f"{latitude:.7f} {longitude:.7f} {600 + self.rng.randrange(90)}.0 {self.rng.randrange(30, 300) / 10}"
