"""An organisation's OpenID provider: its people sign in, its tokens are taken, and nothing that it did not sign is."""

import asyncio
import time
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from explorer.catalog import ProviderTokens, Scope, SignedInPrincipal
from mcp_bridge.sign_in.catalog_calls import CatalogCalls
from mcp_bridge.sign_in.identity import IdentityEnded, ProviderUnavailable, SignedIn, SignInFailed
from mcp_bridge.sign_in.providers.claims import are_left_out, rights_by, values_of
from mcp_bridge.sign_in.providers.issuer import Issuer
from mcp_bridge.sign_in.providers.issuer_tokens import IssuerTokens, TakenIssuer
from mcp_bridge.sign_in.providers.openid import OpenIdPeople
from mcp_bridge.sign_in.settings_file import Issuer as IssuerSettings
from mcp_bridge.sign_in.settings_file import Rule
from tests.mcp_bridge.sign_in.house import House
from tests.mcp_bridge.sign_in.organisation import (
    AUDIENCE,
    CLIENT,
    ISSUER,
    Organisation,
    signed_with_public_key,
    unsigned,
)

READING = frozenset({Scope.METADATA_READ, Scope.QUERY_RUN})
RULES = [
    {"claim": "realm_access.roles", "any": ["dex-reader"], "tenants": ["clinic:one"], "scopes": sorted(READING)},
    {"claim": ["https://acme.example/teams"], "matches": "chw-(?P<space>[a-z]+)", "tenants": ["clinic:{space}"],
     "scopes": ["metadata:read"]},
]  # fmt: skip
READER = {"realm_access": {"roles": ["dex-reader", "other"]}}


class Clock:
    """Time that a test moves on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def acme() -> Organisation:
    return Organisation()


@pytest.fixture
def clock() -> Clock:
    return Clock()


def settings(**more: Any) -> IssuerSettings:
    given = {
        "issuer": ISSUER,
        "sign_in": {"client_id": CLIENT},
        "tokens": {"audience": [AUDIENCE], "algorithms": ["RS256", "ES256"]},
        "rules": RULES,
    }
    return IssuerSettings.model_validate({**given, **more})


@pytest.fixture
def machines(acme: Organisation, clock: Clock, house: House) -> IssuerTokens:
    return taking(acme, clock, house)


def taking(acme: Organisation, clock: Clock, house: House, **more: Any) -> IssuerTokens:
    issuer = Issuer(ISSUER, acme.transport, clock)
    return IssuerTokens({ISSUER: TakenIssuer("acme", settings(**more), issuer)}, lambda: house.catalog)


def verify(machines: IssuerTokens, token: str) -> SignedInPrincipal | None:
    return asyncio.run(machines.verify(token))


def people(acme: Organisation, house: House, **sign_in: Any) -> OpenIdPeople:
    of = settings(sign_in={"client_id": CLIENT, **sign_in})
    assert of.sign_in is not None
    return OpenIdPeople("acme", of, of.sign_in, Issuer(ISSUER, acme.transport), CatalogCalls(lambda: house.catalog))


def signs_in(people: OpenIdPeople, nonce: str = "n") -> SignedIn:
    return asyncio.run(people.sign_in(code="c", verifier="v" * 43, nonce=nonce, redirect_uri="https://x/callback"))


# Tokens of machines


def test_a_token_of_the_issuer_gives_what_its_claims_say(
    machines: IssuerTokens, acme: Organisation, house: House
) -> None:
    found = verify(machines, acme.signed(**READER, azp="robot", preferred_username="robot@acme"))
    assert found is not None
    assert found.principal.grants == {"clinic:one": READING}
    assert found.principal.name == "person:acme:tokens:robot@acme"
    assert (found.client_id, found.grant_id, found.scopes) == ("robot", None, frozenset(Scope))
    less = verify(machines, acme.signed(**{"https://acme.example/teams": ["chw-two", "chw-none"]}, azp="robot"))
    assert less is not None
    assert less.principal.id == found.principal.id
    assert less.principal.grants == {"clinic:two": {Scope.METADATA_READ}}
    house.catalog.identities.revoke(found.principal.name, block=True)
    assert verify(machines, acme.signed(**READER)) is None
    house.catalog.identities.allow(found.principal.name)


class In(int):
    """A moment so many seconds from the test's now, which is not that of the import."""


def now(claims: dict[str, Any]) -> dict[str, Any]:
    """The claims with their moments."""
    return {name: int(time.time()) + value if isinstance(value, In) else value for name, value in claims.items()}


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "https://www.commcarehq.org"}, {"aud": [AUDIENCE + "/"]}, {"aud": None}, {"iss": ISSUER + "/"},
        {"exp": In(-120)}, {"exp": None}, {"iat": None}, {"iat": In(600)}, {"exp": In(90_000)}, {"nbf": In(600)},
        {"exp": "4102444800"}, {"sub": None}, {"sub": ""}, {"nonce": "n"}, {"at_hash": "x"}, {"typ": "ID"},
    ],
    ids=str,
)  # fmt: skip
def test_a_token_for_another_use_is_refused(machines: IssuerTokens, acme: Organisation, claims: dict[str, Any]) -> None:
    assert verify(machines, acme.signed(**{**READER, **now(claims)})) is None


def test_clocks_may_differ_a_little(machines: IssuerTokens, acme: Organisation) -> None:
    assert verify(machines, acme.signed(exp=int(time.time()) - 20)) is not None


def test_a_token_cannot_choose_how_it_is_checked(machines: IssuerTokens, acme: Organisation) -> None:
    good = acme.signed(**READER)
    forged = Organisation()
    for token in (
        unsigned(good, alg="none", kid="one"),
        signed_with_public_key(acme, good),
        forged.signed(**READER),
        acme.signed(**READER, headers={"jku": f"{ISSUER}/keys"}),
        acme.signed(**READER, headers={"x5u": f"{ISSUER}/keys"}),
        acme.signed(**READER, headers={"crit": ["b64"], "b64": True}),
        acme.signed(algorithm="RS512", **READER),
        good[:-4] + ("aaaa" if good[-4:] != "aaaa" else "bbbb"),
        good + "x" * 20_000,
        "a.b.c",
        "..",
        "",
    ):
        assert verify(machines, token) is None, token[:80]
    assert verify(machines, good) is not None


def test_the_kind_of_key_and_of_algorithm_must_agree(machines: IssuerTokens, acme: Organisation) -> None:
    acme.add_curve("curve")
    assert verify(machines, acme.signed("curve", "ES256", **READER)) is not None
    assert verify(machines, acme.signed("curve", "ES256", {"kid": "one"}, **READER)) is None
    assert verify(machines, acme.signed("one", "RS256", {"kid": "curve"}, **READER)) is None


@pytest.mark.filterwarnings("ignore:The RSA key is 1024 bits")
def test_weak_keys_are_not_taken(machines: IssuerTokens, acme: Organisation) -> None:
    acme.add_key("weak", 1024)
    assert verify(machines, acme.signed("weak", **READER)) is None


def test_an_access_token_says_so_where_that_is_demanded(acme: Organisation, clock: Clock, house: House) -> None:
    strict = taking(acme, clock, house, tokens={"audience": [AUDIENCE], "typ_required": True})
    assert verify(strict, acme.signed()) is None
    assert verify(strict, acme.signed(headers={"typ": "at+jwt"})) is not None


def test_a_new_key_is_found_and_a_flood_of_names_costs_one_request(
    machines: IssuerTokens, acme: Organisation, clock: Clock
) -> None:
    assert verify(machines, acme.signed()) is not None
    acme.add_key("two")
    clock.now += 31
    assert verify(machines, acme.signed("two")) is not None
    before = acme.requests.count("/keys")
    clock.now += 31
    for number in range(20):
        assert verify(machines, acme.signed(headers={"kid": f"invented-{number}"})) is None
    assert acme.requests.count("/keys") == before + 1
    # A key that was taken back is not believed once the list is old.
    acme.published.remove("one")
    clock.now += 4000
    assert verify(machines, acme.signed("one")) is None


def test_keys_that_cannot_be_fetched_again_count_for_a_day(
    machines: IssuerTokens, acme: Organisation, clock: Clock
) -> None:
    token = acme.signed(exp=int(time.time()) + 3600)
    assert verify(machines, token) is not None
    acme.answers = {"/keys": httpx.Response(503), "/.well-known/openid-configuration": httpx.ConnectError("down")}
    clock.now += 20 * 3600
    assert verify(machines, token) is not None
    clock.now += 5 * 3600
    # Neither after a question that was cut off, which is no failure of the provider.
    acme.answers = {"/.well-known/openid-configuration": asyncio.CancelledError()}
    with pytest.raises(asyncio.CancelledError):
        verify(machines, token)
    acme.answers = {}
    with pytest.raises(ProviderUnavailable):
        verify(machines, token)
    clock.now += 60
    assert verify(machines, token) is not None


@pytest.mark.parametrize(
    "metadata",
    [
        {"issuer": "https://evil.example"},
        {"jwks_uri": "http://id.acme.example/keys"},
        {"jwks_uri": "file:///etc/keys"},
        {"jwks_uri": "https://[id.acme.example/keys"},
        {"jwks_uri": "https://id.acme.example:99999/keys"},
    ],
)
def test_a_discovery_document_of_another_issuer_or_without_encryption_is_refused(
    machines: IssuerTokens, acme: Organisation, metadata: dict[str, str]
) -> None:
    acme.metadata = metadata
    with pytest.raises(ProviderUnavailable):
        verify(machines, acme.signed())


def test_redirects_and_long_answers_are_not_followed(machines: IssuerTokens, acme: Organisation) -> None:
    for answer in (
        httpx.Response(302, headers={"location": "https://evil.example/keys"}),
        httpx.Response(200, content=b"{" * 300_000),
    ):
        acme.answers = {"/keys": answer}
        with pytest.raises(ProviderUnavailable):
            verify(machines, acme.signed())


# People


def test_people_sign_in_and_their_claims_decide(acme: Organisation, house: House) -> None:
    acme.claims = {**READER, "nonce": "n", "preferred_username": "jane"}
    way = people(acme, house)
    address = asyncio.run(way.authorize_url(redirect_uri="https://x/callback", state="s", challenge="c", nonce="n"))
    asked = {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}
    assert (asked["code_challenge_method"], asked["nonce"], asked["scope"]) == ("S256", "n", "openid email profile")
    signed_in = signs_in(way)
    assert (signed_in.identity.subject, signed_in.identity.username) == ("u-1", "jane")
    assert dict(signed_in.memberships.rights) == {"clinic:one": READING}
    assert acme.forms[0]["code_verifier"] == "v" * 43


@pytest.mark.parametrize(
    "claims",
    [{"nonce": "other"}, {}, {"nonce": "n", "aud": "another-client"}, {"nonce": "n", "azp": "another-client"},
     {"nonce": "n", "aud": [CLIENT, "another"]}, {"nonce": "n", "exp": In(-120)}],
    ids=str,
)  # fmt: skip
def test_an_id_token_of_another_sign_in_lets_nobody_in(
    acme: Organisation, house: House, claims: dict[str, Any]
) -> None:
    acme.claims = claims = now(claims)
    if "aud" in claims:
        acme.answers["/token"] = httpx.Response(200, json={"access_token": "a", "id_token": acme.signed(**claims)})
    with pytest.raises(SignInFailed):
        signs_in(people(acme, house))


def test_only_accounts_of_the_hosted_domain(acme: Organisation, house: House) -> None:
    acme.claims = {"nonce": "n", "email": "jane@gmail.com"}
    way = people(acme, house, hosted_domain="acme.example")
    with pytest.raises(SignInFailed, match=r"acme\.example"):
        signs_in(way)
    acme.claims["hd"] = "acme.example"
    assert signs_in(way).identity.username == "jane@gmail.com"


def test_a_refused_code_is_the_persons_matter_and_an_outage_is_not(acme: Organisation, house: House) -> None:
    way = people(acme, house)
    acme.answers["/token"] = httpx.Response(400, json={"error": "invalid_grant"})
    with pytest.raises(SignInFailed, match="invalid_grant"):
        signs_in(way)
    acme.answers["/token"] = httpx.Response(502, content=b"<html>")
    with pytest.raises(ProviderUnavailable):
        signs_in(way)


@pytest.mark.parametrize("id_token_again", [True, False])
def test_what_the_provider_says_now_counts(acme: Organisation, house: House, id_token_again: bool) -> None:
    acme.claims = {**READER, "nonce": "n"}
    way, kept = people(acme, house), list[ProviderTokens]()
    signed_in = signs_in(way)
    assert signed_in.tokens is not None
    acme.claims, acme.gives_id_token_again = {"realm_access": {"roles": []}}, id_token_again
    found = asyncio.run(way.memberships(signed_in.identity, signed_in.tokens, kept.append))
    assert dict(found.rights) == {}
    assert kept[0].refresh == "refresh-2"
    acme.answers["/token"] = httpx.Response(400, json={"error": "invalid_grant"})
    with pytest.raises(IdentityEnded):
        asyncio.run(way.memberships(signed_in.identity, signed_in.tokens, kept.append))
    for answer in (httpx.Response(401, json={"error": "invalid_client"}), httpx.Response(500)):
        acme.answers["/token"] = answer
        with pytest.raises(ProviderUnavailable):
            asyncio.run(way.memberships(signed_in.identity, signed_in.tokens, kept.append))


def test_without_a_refresh_token_nothing_is_kept(acme: Organisation, house: House) -> None:
    acme.claims, acme.gives_refresh_token = {**READER, "nonce": "n"}, False
    assert signs_in(people(acme, house)).tokens is None


def test_who_gets_nothing_is_told_why(acme: Organisation, house: House) -> None:
    acme.claims = {"nonce": "n"}
    memberships = signs_in(people(acme, house)).memberships
    assert memberships is not None
    assert "groups or roles" in memberships.unavailable[0].reason
    acme.claims = {"nonce": "n", "_claim_names": {"realm_access": "src1"}}
    memberships = signs_in(people(acme, house)).memberships
    assert memberships is not None
    assert "so many groups" in memberships.unavailable[0].reason


# Rules


def test_values_are_lists_or_words() -> None:
    assert values_of({"scp": "a b"}, ["scp"]) == ["a b", "a", "b"]
    assert values_of({"groups": ["x", 3, None, "y z"]}, ["groups"]) == ["x", "y z"]
    assert values_of({"groups": {"x": 1}}, ["groups"]) == []
    assert values_of({}, ["a", "b"]) == []


def test_an_expression_must_fit_the_whole_value() -> None:
    rule = Rule.model_validate({"claim": "g", "matches": "chw-(?P<tenant>[a-z:]+)", "scopes": ["metadata:read"]})
    tenants = {"a:b", "c"}
    assert rights_by([rule], {"g": ["chw-a:b"]}, tenants).keys() == {"a:b"}
    for value in ("x-chw-c", "chw-c2", "chw-c\n", "chw-unknown", "c"):
        assert rights_by([rule], {"g": [value]}, tenants) == {}
    assert not are_left_out([rule], {"_claim_names": {"other": "s"}})
