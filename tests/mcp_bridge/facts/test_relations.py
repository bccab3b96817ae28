"""A type has one spelling in all answers."""

from mcp_bridge.facts.relations import sql_type


def test_text_is_text_however_it_was_made() -> None:
    spelt = {
        "varchar": "text",
        "character varying": "text",
        "character varying[]": "text[]",
        "character varying(20)": "character varying(20)",
        "int8": "bigint",
        "timestamp with time zone": "timestamptz",
    }
    assert {name: sql_type(name) for name in spelt} == spelt
