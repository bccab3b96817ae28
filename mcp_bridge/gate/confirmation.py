"""Does the user want what cannot be undone? Asked through the host where it can ask; elsewhere the caller repeats a name.

From revision 2026-07-28 on a question is the answer to the call, and the host calls again with what the user said. What comes
back is sealed by the installation's key and holds what was asked, so that no answer counts for another question. Earlier
revisions ask while the call is served.
"""

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mcp_types as types
from mcp.server import ServerRequestContext
from mcp.server.elicitation import AcceptedElicitation, elicit_with_validation, render_elicitation_schema
from mcp.server.request_state import AESGCMRequestStateCodec
from mcp.shared.exceptions import MCPError
from mcp_types.version import is_version_at_least
from pydantic import BaseModel, Field, ValidationError

from explorer.core.errors import ExplorerError

_ASKED_BY_RESULT_SINCE = "2026-07-28"
_KEY = "confirmation"
# How long a question is open; the seal of the later revisions has the same life.
ASKED_FOR_S = 600.0


class ConfirmationMissing(ExplorerError):
    """The host cannot ask the user, and the call's `confirm` does not repeat the name."""

    code = "confirmation_required"


class Declined(ExplorerError):
    """The user was asked and did not agree. Nothing was changed."""

    code = "declined"


class Agreement(BaseModel):
    """The form that the user fills in."""

    agree: bool = Field(title="Yes, do it")


@dataclass(frozen=True)
class Question:
    """`message`: for the user, with what would be lost; `name`: what `confirm` repeats where the host cannot ask; `about`: the
    state that is asked about: an answer does not count for another one."""

    message: str
    name: str
    about: str = ""

    @property
    def digest(self) -> str:
        """Tells this question from all others."""
        return hashlib.sha256("\0".join((self.message, self.name, self.about)).encode()).hexdigest()


class Asked(Exception):
    """The call is answered with a question. `result`: that answer."""

    def __init__(self, result: types.InputRequiredResult) -> None:
        super().__init__("the user is asked first")
        self.result = result


class User:
    """The user behind the host that makes one call."""

    def __init__(self, ctx: ServerRequestContext[Any, Any], params: types.CallToolRequestParams) -> None:
        self._session, self._request_id = ctx.session, ctx.request_id
        self._by_result = is_version_at_least(ctx.protocol_version, _ASKED_BY_RESULT_SINCE)
        self._answers, self._asked = params.input_responses or {}, params.request_state

    @property
    def can_be_asked(self) -> bool:
        """Whether the host has said that it shows forms, and there is a way to it."""
        capabilities = self._session.client_capabilities
        elicitation = capabilities.elicitation if capabilities is not None else None
        # A bare `elicitation: {}` is from before there were modes, and means forms.
        shows_forms = elicitation is not None and (elicitation.form is not None or elicitation.url is None)
        return shows_forms and (self._by_result or self._session.can_send_request)

    async def confirm(self, question: Question, repeated: str | None) -> str:
        """Go on only if the user agrees; returns how that was learnt, for the audit trail. `repeated`: the call's `confirm`.

        Raises:
            Declined: the user said no, closed the question, or did not answer in time.
            ConfirmationMissing: the host cannot ask, and `repeated` is not the question's name.
            Asked: the question goes to the host as the call's answer.
        """
        if repeated not in (None, question.name):
            raise _not_repeated(question)
        if not self.can_be_asked:
            if repeated is None:
                raise _not_repeated(question)
            return "argument"
        if not await (self._by_answer(question) if self._by_result else self._meanwhile(question)):
            raise Declined(
                "The user was asked and did not agree. Nothing was changed.",
                next_step="Ask the user what they want instead; do not call again unless they say so.",
            )
        return "user"

    async def _by_answer(self, question: Question) -> bool:
        answer = self._answers.get(_KEY)
        # An answer to another question, or to this one in another state of things, is none: ask again.
        if self._asked != question.digest or not isinstance(answer, types.ElicitResult):
            form = types.ElicitRequestFormParams(
                message=question.message, requested_schema=render_elicitation_schema(Agreement)
            )
            raise Asked(
                types.InputRequiredResult(
                    input_requests={_KEY: types.ElicitRequest(params=form)}, request_state=question.digest
                )
            )
        if answer.action != "accept":
            return False
        try:
            return Agreement.model_validate(answer.content).agree
        except ValidationError:
            return False

    async def _meanwhile(self, question: Question) -> bool:
        try:
            async with asyncio.timeout(ASKED_FOR_S):
                answer = await elicit_with_validation(self._session, question.message, Agreement, self._request_id)
        except (TimeoutError, ValueError, MCPError):
            return False
        return isinstance(answer, AcceptedElicitation) and answer.data.agree


class SealedQuestions:
    """Seals what a host sends back, with a key that all bridges share. The key is read when it is first needed."""

    def __init__(self, key: Callable[[], bytes]) -> None:
        self._key = key

    def seal(self, payload: bytes) -> str:
        """As `RequestStateCodec.seal`."""
        return AESGCMRequestStateCodec([self._key()]).seal(payload)

    def unseal(self, token: str) -> bytes:
        """As `RequestStateCodec.unseal`."""
        return AESGCMRequestStateCodec([self._key()]).unseal(token)


def _not_repeated(question: Question) -> ConfirmationMissing:
    return ConfirmationMissing(
        f"{question.message} The host cannot ask the user, and `confirm` does not repeat {question.name!r}.",
        next_step=f"If the user really wants that, call again with confirm={question.name!r}.",
    )
