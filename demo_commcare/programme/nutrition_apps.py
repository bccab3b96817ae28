"""The forms of the child-nutrition programme. French is the default language, and two forms have the same name."""

from demo_commcare.programme.app_model import App, Form, Module, Question

Q = Question
NUTRITION_ID = "1f2e3d4c5b6a79880716253443526170"
_XMLNS = "http://openrosa.org/formdesigner/"


def _form(key: str, number: int, name: dict[str, str], *questions: Question) -> Form:
    xmlns = f"{_XMLNS}{0xC0FFEE00 + number:08X}-77AA-4D10-8B3C-{number:012X}"
    return Form(key, xmlns, name, questions, f"{number:04x}" + key.encode().hex().ljust(36, "0")[:36])


SEXE = (("f", "Girl|Fille"), ("m", "Boy|Garçon"))
OEDEME = (("aucun", "None|Aucun"), ("leger", "Mild|Léger"), ("severe", "Severe|Sévère"))
FOYER = _form(
    "foyer", 1, {"fr": "Recensement du foyer"},
    Q("chef", "Text", "|Chef de ménage"), Q("commune", "Text", "|Commune"), Q("position", "Geopoint", "|Position"),
)  # fmt: skip
INSCRIPTION = _form(
    "inscription", 2, {"fr": "Inscription de l'enfant", "en": "Child enrolment"},
    Q("nom", "Text", "Name|Nom", required=True), Q("naissance", "Date", "Date of birth|Date de naissance"),
    Q("sexe", "Select", "Sex|Sexe", SEXE),
    Q("mesures", "Group", "Measures|Mesures", children=(
        Q("poids_kg", "Double", "Weight (kg)|Poids (kg)"), Q("pb_mm", "Int", "MUAC (mm)|PB (mm)"),
        Q("oedeme", "Select", "Oedema|Œdème", OEDEME),
    )),
)  # fmt: skip
_SUIVI_MESURES = (
    Q("date_visite", "Date", "Visit|Date de visite"),
    Q("poids_kg", "Double", "Weight (kg)|Poids (kg)"),
    Q("pb_mm", "Int", "MUAC (mm)|PB (mm)"),
)
SUIVI_AMBULATOIRE = _form(
    "suivi_ambulatoire", 3, {"fr": "Visite de suivi"}, *_SUIVI_MESURES,
    Q("rations", "Repeat", "Rations|Rations", children=(
        Q("produit", "Select", "Product|Produit", (("atpe", "RUTF|ATPE"), ("farine", "Flour|Farine"))),
        Q("sachets", "Int", "Sachets|Sachets"),
    )),
    Q("gueri", "DataBindOnly", calculate="/data/pb_mm >= 125"),
)  # fmt: skip
SUIVI_HOSPITALIER = _form(
    "suivi_hospitalier", 4, {"fr": "Visite de suivi"}, *_SUIVI_MESURES,
    Q("oedeme", "Select", "Oedema|Œdème", OEDEME), Q("note", "Text", "|Note du médecin"),
)  # fmt: skip
PROPERTIES: dict[str, tuple[str, ...]] = {
    "foyer": ("commune", "position"),
    "enfant": ("naissance", "sexe", "poids_kg", "pb_mm", "oedeme", "derniere_visite", "gueri", "parent/commune"),
}


def nutrition_apps() -> tuple[App, ...]:
    return (
        App(
            NUTRITION_ID, "Nutrition de l'enfant", 12, ("fr", "en"),
            (
                Module({"fr": "Foyers"}, "foyer", (FOYER,), f"{201:04x}" + "0" * 36),
                Module({"fr": "Enfants", "en": "Children"}, "enfant", (INSCRIPTION, SUIVI_AMBULATOIRE), f"{202:04x}" + "0" * 36),
                Module({"fr": "Hospitalisation"}, "enfant", (SUIVI_HOSPITALIER,), f"{203:04x}" + "0" * 36),
            ),
            PROPERTIES, "d3f9a2c4e6b860710f5c8d9eaf102134",
        ),
    )  # fmt: skip
