"""A run reports the first cause once, and the number and names of failures that follow from it."""

from explorer.marts.causes import cause_of, causes, summary
from explorer.marts.dbt.results import NodeResult

FULL = (
    "Database Error in model case_child (models/generated/case_child.sql)\n"
    '  could not extend file "base/16389/17234": No space left on device\n'
    "  HINT:  Check free disk space.\n"
    "  compiled code at target/run/explorer/models/generated/case_child.sql"
)
SAID = 'could not extend file "base/16389/17234": No space left on device HINT:  Check free disk space.'


def model(name: str, status: str = "success", message: str | None = None, needs: tuple[str, ...] = ()) -> NodeResult:
    depends_on = tuple(f"model.explorer.{each}" for each in needs)
    return NodeResult(f"model.explorer.{name}", name, "model", status, message, None, None, 0.1, depends_on=depends_on)


def test_the_databases_words_without_those_around_them() -> None:
    assert cause_of(FULL) == SAID
    assert (
        cause_of("could not extend file: No space left on device") == "could not extend file: No space left on device"
    )
    assert cause_of("Database Error in model x (models/x.sql)") == "Database Error in model x (models/x.sql)"
    assert cause_of(None) == cause_of("  \n") == "no reason was given"


def test_what_was_skipped_names_the_model_that_failed_and_its_cause() -> None:
    results = [
        model("stg", "error", FULL),
        model("cases", "skipped", None, ("stg",)),
        model("case_child", "skipped", "SKIP", ("cases",)),
        model("forms"),
    ]
    assert causes(results) == {
        "stg": SAID,
        "cases": f"not built, because stg failed: {SAID}",
        "case_child": f"not built, because stg failed: {SAID}",
    }
    assert summary(results) == (
        f"1 model failed: stg: {SAID} 2 more were not built because of that: case_child, cases."
    )


def test_one_cause_of_many_models_is_said_once_and_names_are_bounded() -> None:
    failed = [model(f"m{n:03}", "error", FULL.replace("17234", "1")) for n in range(40)]
    skipped = [model(f"s{n:03}", "skipped", None, ("m000",)) for n in range(100)]
    told = summary([*failed, *skipped, model("x", "error", "permission denied")])
    assert told is not None
    assert told.startswith("41 models failed: m000, m001")
    assert told.count("No space left") == 1
    assert "m029 and 10 more: could not extend" in told
    assert "x: permission denied" in told
    assert "100 more were not built because of that: s000" in told
    assert told.endswith("s029 and 70 more.")
    assert len(told) < 1000


def test_where_nothing_failed_there_is_nothing_to_say() -> None:
    assert summary([model("a"), model("b", "skipped")]) is None
    assert summary([]) is None
