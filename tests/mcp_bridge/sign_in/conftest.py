"""One house for all tests of the sign-in; a test puts back what it changes in the doubles."""

from collections.abc import Iterator

import pytest

from demo_commcare import MATERNAL
from demo_commcare.sign_in.accounts import DATA_OFFICER, READER
from tests.conftest import PgServer
from tests.mcp_bridge.sign_in.clinic import Clinic, open_clinic
from tests.mcp_bridge.sign_in.house import House, Person, open_house


@pytest.fixture(scope="session")
def whole_house(pg_server: PgServer) -> Iterator[House]:
    with open_house(pg_server) as house:
        yield house


@pytest.fixture
def house(whole_house: House) -> Iterator[House]:
    provider, membership = whole_house.provider, whole_house.membership
    rights = dict(provider.rights)
    yield whole_house
    provider.person, provider.refuses, provider.unavailable, provider.rights = "jane", False, (), rights
    provider.ui, provider.opens_ui = None, True
    membership.ended = membership.is_down = False
    whole_house.jwt.principal = None
    whole_house.documents.clear()


@pytest.fixture
def person(house: House) -> Iterator[Person]:
    person = Person(house)
    with person.http:
        yield person


@pytest.fixture(scope="session")
def whole_clinic(pg_server: PgServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clinic]:
    with open_clinic(pg_server, tmp_path_factory.mktemp("sign-in")) as clinic:
        yield clinic


@pytest.fixture
def clinic(whole_clinic: Clinic) -> Iterator[Clinic]:
    yield whole_clinic
    control = whole_clinic.server.control
    control.clear_faults()
    control.allow(MATERNAL, "web-user")
    for username in (DATA_OFFICER, READER):
        control.reactivate_account(username)
        control.add_member(MATERNAL, username)
