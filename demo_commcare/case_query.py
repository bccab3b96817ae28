"""Parses the Case Query Language.

It knows the common part of the language: comparisons of a property with a quoted string (`=`, `!=`), `and`, `or`,
`not(...)`, parentheses. Anything else is refused as HQ refuses an expression that it cannot parse.
"""

import re
from collections.abc import Callable

from demo_commcare.records import CaseRecord

_TOKEN = re.compile(r"""\s*(?:(?P<string>"[^"]*"|'[^']*')|(?P<op>!=|=|\(|\))|(?P<name>@?[A-Za-z_][\w.\-]*))""")
_SPECIAL = {
    "name": "case_name",
    "case_name": "case_name",
    "@case_type": "case_type",
    "@owner_id": "owner_id",
    "external_id": "external_id",
}
Test = Callable[[CaseRecord], bool]


class BadQuery(ValueError):
    """The expression cannot be parsed."""


def parse_case_query(text: str) -> Test:
    """A test for cases. Raises BadQuery."""
    parser = _Parser(text)
    test = parser.disjunction()
    parser.finish()
    return test


class _Parser:
    def __init__(self, text: str) -> None:
        self._tokens: list[str] = []
        position = 0
        while text[position:].strip():
            match = _TOKEN.match(text, position)
            if match is None:
                raise BadQuery(f"Unexpected character at {position}")
            self._tokens.append(match[0].strip())
            position = match.end()
        self._place = 0

    def disjunction(self) -> Test:
        tests = [self._conjunction()]
        while self._accept("or"):
            tests.append(self._conjunction())
        return lambda case: any(test(case) for test in tests)

    def finish(self) -> None:
        if self._place != len(self._tokens):
            raise BadQuery(f"Unexpected '{self._tokens[self._place]}'")

    def _conjunction(self) -> Test:
        tests = [self._term()]
        while self._accept("and"):
            tests.append(self._term())
        return lambda case: all(test(case) for test in tests)

    def _term(self) -> Test:
        if self._accept("not"):
            inner = self._parenthesis()
            return lambda case: not inner(case)
        if self._tokens[self._place : self._place + 1] == ["("]:
            return self._parenthesis()
        return self._comparison()

    def _parenthesis(self) -> Test:
        if not self._accept("("):
            raise BadQuery("Expected '('")
        inner = self.disjunction()
        if not self._accept(")"):
            raise BadQuery("Expected ')'")
        return inner

    def _comparison(self) -> Test:
        parts = self._tokens[self._place : self._place + 3]
        if len(parts) < 3 or parts[1] not in {"=", "!="} or parts[2][0] not in "\"'" or parts[0][0] in "\"'()=!":
            raise BadQuery("Expected a comparison such as name = 'value'")
        self._place += 3
        name, operator, wanted = parts[0], parts[1], parts[2][1:-1]
        return lambda case: (_value(case, name) == wanted) == (operator == "=")

    def _accept(self, token: str) -> bool:
        if self._tokens[self._place : self._place + 1] == [token]:
            self._place += 1
            return True
        return False


def _value(case: CaseRecord, name: str) -> str:
    if name in _SPECIAL:
        return getattr(case, _SPECIAL[name]) or ""
    if name == "@status":
        return "closed" if case.closed else "open"
    return case.properties.get(name, "")
