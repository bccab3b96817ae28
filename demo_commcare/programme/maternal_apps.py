"""The forms of the maternal-health programme and their questions.

This is only the structure; `maternal_story` invents the answers. Oddities of real project spaces are included on
purpose: a form named only in Hindi, a module named only in French, the same form in two modules, a module that HQ
cannot render.
"""

from demo_commcare.programme.app_model import App, Form, Module, Question
from demo_commcare.programme.names import VILLAGES

Q = Question
REGISTER_ID = "5d3f0c1b7a9e4f62b8c4d1e2f3a4b5c6"
SUPERVISION_ID = "8a1b2c3d4e5f60718293a4b5c6d7e8f9"
_XMLNS = "http://openrosa.org/formdesigner/"
YES_NO = (("yes", "Yes|Oui|हाँ"), ("no", "No|Non|नहीं"))
VILLAGE_OPTIONS = tuple((code, name) for code, name in VILLAGES)
DANGER_SIGNS = (
    ("none", "None|Aucun|कोई नहीं"), ("bleeding", "Bleeding|Saignement|रक्तस्राव"), ("fever", "Fever|Fièvre|बुखार"),
    ("headache", "Severe headache|Maux de tête|सिरदर्द"), ("swelling", "Swelling|Gonflement|सूजन"),
    ("no_movement", "No fetal movement|Pas de mouvement|कोई हलचल नहीं"),
)  # fmt: skip
WATER = (
    ("tap", "Piped water|Robinet|नल"), ("well", "Well|Puits|कुआँ"), 
    ("pump", "Hand pump|Pompe|चापाकल"), ("river", "River|Rivière|नदी"),
)  # fmt: skip
VACCINES = (
    ("bcg", "BCG"),
    ("opv0", "OPV 0|VPO 0"),
    ("hepb", "Hepatitis B|Hépatite B|हेपेटाइटिस बी"),
    ("penta1", "Penta 1"),
)
SEX = (("f", "Girl|Fille|लड़की"), ("m", "Boy|Garçon|लड़का"))
OUTCOMES = (("live", "Live birth|Naissance vivante|जीवित"), ("still", "Stillbirth|Mort-né|मृत"))
MEDICINES = (("ifa", "Iron & folic acid|Fer|आयरन"), ("calcium", "Calcium"), ("tt", "Tetanus toxoid|Anatoxine|टिटनेस"))


def _id(name: str, number: int) -> str:
    return f"{number:04x}" + name.encode().hex().ljust(36, "0")[:36]


def _form(key: str, number: int, name: dict[str, str], *questions: Question, root: str = "data") -> Form:
    xmlns = f"{_XMLNS}{0xA3F1C200 + number:08X}-5B1E-4C7D-9E2A-{number:012X}"
    return Form(key, xmlns, name, questions, _id(key, number), root)


HOUSEHOLD = _form(
    "household_registration", 1,
    {"en": "Household registration", "fr": "Inscription du ménage", "hi": "परिवार पंजीकरण"},
    Q("house_gps", "Geopoint", "Position of the house|Position de la maison|घर का स्थान"),
    Q("head_name", "Text", "Name of the head|Nom du chef|मुखिया का नाम", required=True),
    Q("address", "Group", "Address|Adresse|पता", children=(
        Q("village", "Select", "Village|Village|गाँव", VILLAGE_OPTIONS, required=True),
        Q("ward", "Text", "Ward|Quartier|वार्ड"),
        Q("landmark", "Text", "Landmark|Repère|पहचान"),
    )),
    Q("phone", "PhoneNumber", "Telephone|Téléphone|फ़ोन", constraint="regex(., '^[0-9+]*$')"),
    Q("water_sources", "MSelect", "Sources of water|Sources d'eau|पानी के स्रोत", WATER),
    Q("has_toilet", "Select", "Toilet?|Toilettes ?|शौचालय?", YES_NO),
    Q("members_total", "Int", "People in the household|Personnes|सदस्य", constraint=". > 0"),
    Q("house_photo", "Image", "Photo of the house|Photo|फोटो"),
    Q("women", "Repeat", "Women|Femmes|महिलाएँ", children=(
        Q("woman_name", "Text", "Name|Nom|नाम", required=True),
        Q("woman_age", "Int", "Age|Âge|उम्र"),
        Q("woman_dob", "Date", "Date of birth|Date de naissance|जन्म तिथि"),
        Q("births", "Repeat", "Earlier births|Naissances|पिछले जन्म", children=(
            Q("birth_year", "Int", "Year|Année|वर्ष"),
            Q("birth_outcome", "Select", "Outcome|Issue|परिणाम", OUTCOMES),
        )),
    )),
    Q("household_code", "DataBindOnly", calculate="concat(/data/address/village, '-', uuid())"),
)  # fmt: skip
WOMAN = _form(
    "woman_registration", 2, {"en": "Woman registration", "fr": "Inscription de la femme", "hi": "महिला पंजीकरण"},
    Q("name", "Text", "Name|Nom|नाम", required=True),
    Q("age", "Int", "Age|Âge|उम्र"),
    Q("dob", "Date", "Date of birth|Date de naissance|जन्म तिथि"),
    Q("languages", "MSelect", "Languages|Langues|भाषाएँ", (("hi", "Hindi"), ("fr", "French|Français"), ("en", "English|Anglais"))),
    Q("phone", "PhoneNumber", "Telephone|Téléphone|फ़ोन"),
)  # fmt: skip
PREGNANCY = _form(
    "pregnancy_registration", 3, {"en": "Pregnancy registration", "fr": "Inscription de la grossesse", "hi": "गर्भावस्था पंजीकरण"},
    Q("lmp", "Date", "Last menstrual period|Dernières règles|अंतिम माहवारी", required=True, constraint=". <= today()"),
    Q("edd", "DataBindOnly", calculate="date(/data/lmp + 280)"),
    Q("history", "Group", "History|Antécédents|इतिहास", children=(
        Q("gravida", "Int", "Pregnancies so far|Grossesses|गर्भधारण"),
        Q("parity", "Int", "Births so far|Accouchements|प्रसव"),
        Q("complications", "MSelect", "Earlier complications|Complications|जटिलताएँ", DANGER_SIGNS),
    )),
    Q("height_cm", "Double", "Height (cm)|Taille (cm)|ऊँचाई"),
    Q("blood_group", "Select", "Blood group|Groupe sanguin|रक्त समूह",
      (("a", "A"), ("b", "B"), ("ab", "AB"), ("o", "O"), ("unknown", "Unknown|Inconnu|अज्ञात"))),
    Q("consent", "Trigger", "Consent was explained|Le consentement a été expliqué|सहमति"),
)  # fmt: skip
PROFILE = _form(
    "mother_profile", 4, {"hi": "माता का विवरण"},
    Q("phone", "PhoneNumber", "||फ़ोन नंबर"),
    Q("bank_account", "Select", "||बैंक खाता है?", YES_NO),
    Q("literate", "Select", "||पढ़ सकती हैं?", YES_NO),
    Q("remarks", "Text", "||टिप्पणी"),
)  # fmt: skip
ANC = _form(
    "anc_visit", 5, {"en": "ANC visit", "fr": "Visite prénatale", "hi": "प्रसव पूर्व जाँच"},
    Q("visit_date", "Date", "Date of the visit|Date de la visite|जाँच की तिथि", required=True),
    Q("visit_no", "Int", "Visit number|Numéro de visite|जाँच संख्या"),
    Q("next_visit", "DateTime", "Next appointment|Prochain rendez-vous|अगली जाँच"),
    Q("exam", "Group", "Examination|Examen|परीक्षण", children=(
        Q("weight_kg", "Double", "Weight (kg)|Poids (kg)|वज़न"),
        Q("gestation_weeks", "Int", "Weeks of pregnancy|Semaines|सप्ताह"),
        Q("bp", "Group", "Blood pressure|Tension|रक्तचाप", children=(
            Q("systolic", "Int", "Systolic|Systolique|सिस्टोलिक"),
            Q("diastolic", "Int", "Diastolic|Diastolique|डायस्टोलिक"),
        )),
        Q("haemoglobin", "Double", "Haemoglobin|Hémoglobine|हीमोग्लोबिन"),
        Q("exam_time", "Time", "Time|Heure|समय"),
    )),
    Q("danger_signs", "MSelect", "Danger signs|Signes de danger|खतरे के लक्षण", DANGER_SIGNS),
    Q("medicines", "Repeat", "Medicines|Médicaments|दवाएँ", children=(
        Q("medicine", "Select", "Medicine|Médicament|दवा", MEDICINES),
        Q("tablets", "Int", "Tablets|Comprimés|गोलियाँ"),
    )),
    Q("risk_score", "DataBindOnly", calculate="if(selected(/data/danger_signs, 'none'), 0, 5)"),
    Q("refer", "Select", "Refer?|Référer ?|रेफर?", YES_NO),
    Q("referral", "Group", "Referral|Référence|रेफरल", relevant="/data/refer = 'yes'", children=(
        Q("facility", "Select", "Facility|Structure|अस्पताल",
          (("phc", "Health centre|Centre|केंद्र"), ("dh", "Hospital|Hôpital|अस्पताल"))),
        Q("reason", "Text", "Reason|Motif|कारण"),
        Q("referral_save", "SaveToCase"),
    )),
    Q("notes", "Text", "Notes|Remarques|टिप्पणी"),
)  # fmt: skip
DELIVERY = _form(
    "delivery", 6, {"en": "Delivery", "fr": "Accouchement", "hi": "प्रसव"},
    Q("delivery_date", "Date", "Date|Date|तिथि", required=True),
    Q("place", "Select", "Place|Lieu|स्थान", (("home", "Home|Domicile|घर"), ("facility", "Facility|Structure|अस्पताल"))),
    Q("delivery_gps", "Geopoint", "Position|Position|स्थान"),
    Q("babies", "Repeat", "Babies|Bébés|शिशु", children=(
        Q("baby_name", "Text", "Name|Nom|नाम"),
        Q("sex", "Select", "Sex|Sexe|लिंग", SEX),
        Q("birth_weight_g", "Int", "Weight (g)|Poids (g)|वज़न"),
        Q("outcome", "Select", "Outcome|Issue|परिणाम", OUTCOMES),
    )),
    Q("delivered_count", "DataBindOnly", calculate="count(/data/babies)"),
)  # fmt: skip
CHILD = _form(
    "child_registration", 7, {"en": "Child registration", "fr": "Inscription de l'enfant", "hi": "शिशु पंजीकरण"},
    Q("name", "Text", "Name|Nom|नाम"),
    Q("dob", "Date", "Date of birth|Date de naissance|जन्म तिथि"),
    Q("sex", "Select", "Sex|Sexe|लिंग", SEX),
    Q("birth_weight_g", "Int", "Birth weight (g)|Poids (g)|वज़न"),
)  # fmt: skip
PNC = _form(
    "pnc_visit", 8, {"en": "PNC visit", "fr": "Visite postnatale", "hi": "प्रसवोत्तर जाँच"},
    Q("visit_date", "Date", "Date of the visit|Date|तिथि", required=True),
    Q("mother_check", "Group", "Mother|Mère|माता", children=(
        Q("mother_temperature", "Double", "Temperature|Température|तापमान"),
        Q("mother_signs", "MSelect", "Danger signs|Signes|लक्षण", DANGER_SIGNS),
    )),
    Q("breastfed", "Select", "Breastfed?|Allaité ?|स्तनपान?", YES_NO),
    Q("weight_g", "Int", "Weight (g)|Poids (g)|वज़न"),
    Q("cord_photo", "Image", "Photo of the cord|Photo|फोटो"),
)  # fmt: skip
GROWTH = _form(
    "growth_immunisation", 9, {"en": "Growth & immunisation", "fr": "Croissance et vaccination"},
    Q("visit_date", "Date", "Date|Date|तिथि"),
    Q("weight_g", "Int", "Weight (g)|Poids (g)|वज़न"),
    Q("muac_mm", "Int", "MUAC (mm)|PB (mm)|एमयूएसी"),
    Q("vaccines", "MSelect", "Vaccines given|Vaccins|टीके", VACCINES),
    Q("z_score", "DataBindOnly", calculate="round(/data/weight_g div 1000 - 4)"),
    Q("child_pin", "Secret", "Card number|Numéro de carte|कार्ड"),
)  # fmt: skip
FOLLOW_UP = _form(
    "referral_follow_up", 10, {"en": "Referral follow-up", "hi": "रेफरल अनुवर्तन"},
    Q("reached", "Select", "Reached the facility?|Arrivée ?|पहुँची?", YES_NO),
    Q("treatment", "Text", "Treatment|Traitement|उपचार"),
)  # fmt: skip
SUPERVISION = _form(
    "supervision", 11, {"en": "Supervision checklist", "fr": "Grille de supervision", "hi": "पर्यवेक्षण"},
    Q("name", "Text", "Worker visited|Agent visité|कार्यकर्ता"),
    Q("id", "Barcode", "Worker card|Carte|कार्ड"),
    Q("scores", "Group", "Scores|Notes|अंक", children=(
        Q("records", "Select", "Records complete|Registres|अभिलेख", YES_NO),
        Q("stock", "Int", "Stock items|Stock|भंडार"),
        Q("update", "Text", "What was updated|Mis à jour|अद्यतन"),
    )),
    Q("supervisor_gps", "Geopoint", "Position|Position|स्थान"),
    root="supervision_checklist",
)  # fmt: skip
SURVEY = _form(
    "household_survey", 12, {"en": "Household survey", "fr": "Enquête ménage", "hi": "परिवार सर्वेक्षण"},
    Q("water_sources", "MSelect", "Sources of water|Sources d'eau|पानी के स्रोत", WATER),
    Q("bed_nets", "Int", "Bed nets|Moustiquaires|मच्छरदानी"),
    Q("members", "Repeat", "Members|Membres|सदस्य", children=(
        Q("item", "Group", children=(
            Q("member_name", "Text", "Name|Nom|नाम"),
            Q("slept_under_net", "Select", "Slept under a net?|Sous moustiquaire ?|मच्छरदानी?", YES_NO),
        )),
    )),
    Q("income", "Long", "Monthly income|Revenu mensuel|मासिक आय"),
)  # fmt: skip

CASE_PROPERTIES: dict[str, tuple[str, ...]] = {
    "household": ("village", "ward", "phone", "water_sources", "has_toilet", "members_total", "house_gps",
                  "household_code", "bed_nets"),
    "mother": ("age", "dob", "languages", "phone", "bank_account", "literate", "remarks", "last_pnc", "village",
               "parent/village"),
    "pregnancy": (
        "lmp", "edd", "gravida", "parity", "complications", "height_cm", "blood_group", "last_visit", "visit_no", "weight_kg",
        "gestation_weeks", "danger_signs", "risk_score", "haemoglobin", "notes", "delivery_date", "host/phone",
    ),
    "child": ("dob", "sex", "birth_weight_g", "weight_g", "muac_mm", "vaccines", "last_visit", "parent/phone"),
    "referral": ("facility", "reason", "referred_on", "reached", "treatment", "parent/edd"),
}  # fmt: skip


def maternal_apps() -> tuple[App, ...]:
    """The register (seven modules, one of them broken) and the supervision app."""
    register = App(
        REGISTER_ID, "Maternal Health Register", 42, ("en", "fr", "hi"),
        (
            Module({"en": "Households", "fr": "Ménages", "hi": "परिवार"}, "household", (HOUSEHOLD,), _id("households", 101)),
            Module({"en": "Mothers", "fr": "Mères", "hi": "माताएँ"}, "mother", (WOMAN, PREGNANCY, PROFILE), _id("mothers", 102)),
            Module({"en": "Pregnancies", "fr": "Grossesses"}, "pregnancy", (ANC, DELIVERY), _id("pregnancies", 103)),
            Module({"fr": "Enfants", "hi": "शिशु"}, "child", (CHILD, PNC, GROWTH), _id("children", 104)),
            Module({"en": "Referrals"}, "referral", (FOLLOW_UP,), _id("referrals", 105)),
            Module({"en": "High-risk pregnancies"}, "pregnancy", (ANC,), _id("high-risk", 106)),
            Module({}, "", (), _id("broken", 107),
                   error="Error parsing XML: Opening and ending tag mismatch: label line 31 and text"),
        ),
        CASE_PROPERTIES, "b1d7e0a2c4f64e589d3a6b7c8d9e0f12", "Danger signs added",
        versions=(
            {"id": "b1d7e0a2c4f64e589d3a6b7c8d9e0f12", "built_on": "2025-02-03T08:12:11.000000Z",
             "build_comment": "Danger signs added", "is_released": True, "version": 42},
        ),
    )  # fmt: skip
    supervision = App(
        SUPERVISION_ID, "Supervision & Household Survey", 7, ("en", "fr", "hi"),
        (
            Module({"en": "Supervision"}, "", (SUPERVISION,), _id("supervision", 111)),
            Module({"en": "Survey", "fr": "Enquête"}, "household", (SURVEY,), _id("survey", 112)),
        ),
        {"household": ("bed_nets", "water_sources")}, "c2e8f1b3d5a75f690e4b7c8d9eaf1023",
    )  # fmt: skip
    return register, supervision
