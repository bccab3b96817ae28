"""The people and places of the invented programme. All names are made up from common given names."""

WOMEN = (
    "Asha Devi", "Sunita Kumari", "Meena Yadav", "Rekha Paswan", "Lalita Munda", "Geeta Oraon", "Kavita Sahu", "Poonam Singh",
    "सीता देवी", "राधा कुमारी", "गीता यादव", "आशा पासवान", "लक्ष्मी मुंडा", "सरिता साहू",
    "Aïssatou Diallo", "Fatou Ndiaye", "Hélène Koné", "Mariame Traoré", "Zoé N'Guessan", "Nafissatou Ba",
    "Mary-Anne O'Neil", "Rukhsana Bano", "نجمہ خاتون", "Tenzin Dolma",
)  # fmt: skip
MEN = (
    "Ramesh Devi", "Suresh Yadav", "Mohan Paswan", "Birsa Munda", "राम साहू", "श्याम सिंह", "Ousmane Diallo", "Jean-Luc Koné",
    "Ibrahim Bano", "Karma Dolma",
)  # fmt: skip
CHILDREN = (
    "Aarav", "Ananya", "आरव", "प्रिया", "Rohan", "Kiran", "Binta", "Moussa", "Éloïse", "Zara", "Dawa", "Noor",
)  # fmt: skip
VILLAGES = (
    ("v01", "Rampur"), ("v02", "Sonpur"), ("v03", "Bhagalpur Tola"), ("v04", "चंदनपुर"), 
    ("v05", "Kadamdih"), ("v06", "Lohardaga West"),
    ("v07", "Nawadih"), ("v08", "Piparwar"), ("v09", "Hesla"), ("v10", "Gola"), ("v11", "Itki"), ("v12", "Mandar"),
)  # fmt: skip
WORKERS = (
    ("asha.rampur", "Asha", "Kerketta"), ("sunita.sonpur", "Sunita", "Tirkey"), ("meena.tola", "Meena", "Ekka"),
    ("radha.chandan", "राधा", "लकड़ा"), ("kavita.kadam", "Kavita", "Minz"), ("fatou.lohar", "Fatou", "Sène"),
    ("geeta.nawadih", "Geeta", "Bhagat"), ("lalita.piparwar", "Lalita", "Toppo"), ("supervisor.one", "Anil", "Horo"),
    ("supervisor.two", "Célestine", "D'Almeida"), ("left.programme", "Pushpa", "Kujur"), ("old.phone", "", ""),
)  # fmt: skip
REGIONS_FR = (("kolda", "Kolda"), ("sedhiou", "Sédhiou"), ("ziguinchor", "Ziguinchor"))
