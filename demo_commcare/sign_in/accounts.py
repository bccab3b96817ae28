"""Who can log in to the server, and what may they do in a project space?

Accounts belong to the server; a role belongs to an account in one project space, whose list of web users tells it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from demo_commcare.programme.people import web_user_id
from demo_commcare.world import DEMO_USERNAME, Project, World

# The password of every account: the data are invented.
PASSWORD = "demo"  # noqa: S105
DATA_OFFICER, READER, SUPERVISOR, GUEST = (
    f"{name}@example.org" for name in ("data.officer", "reader", "supervisor", "guest")
)
USERNAMES = (DEMO_USERNAME, DATA_OFFICER, READER, SUPERVISOR, GUEST)
_WORDS = {
    DEMO_USERNAME: "administers both project spaces",
    DATA_OFFICER: "edits data in both project spaces",
    READER: "reads reports of the maternal programme",
    SUPERVISOR: "sees one block of the maternal programme only",
    GUEST: "is a member of no project space",
}


@dataclass
class Account:
    """A person's account. `user_id` never changes."""

    username: str
    is_active: bool = True

    @property
    def user_id(self) -> str:
        return web_user_id(self.username)

    @property
    def description(self) -> str:
        return _WORDS.get(self.username, "")

    @property
    def first_name(self) -> str:
        return self.username.split("@")[0].split(".")[0].title()

    def identity(self) -> dict[str, str]:
        """In the shape of the identity resource."""
        last = "User" if self.username == DEMO_USERNAME else "Demo"
        names = {"username": self.username, "first_name": self.first_name, "last_name": last}
        return {"id": self.user_id, **names, "email": self.username}


class Accounts:
    """All accounts of one server. Every method runs under the world's lock."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._accounts = {name: Account(name) for name in USERNAMES}

    @property
    def everybody(self) -> list[Account]:
        return list(self._accounts.values())

    def get(self, username: str) -> Account:
        """Raises: KeyError."""
        return self._accounts[username]

    def log_in(self, username: str, password: str) -> Account | None:
        """The account, if the password is right and it is active."""
        account = self.active(username.strip().lower())
        return account if password == PASSWORD else None

    def active(self, username: str) -> Account | None:
        account = self._accounts.get(username)
        return account if account is not None and account.is_active else None

    def spaces(self, username: str) -> list[Project]:
        """The project spaces of which the person is a member."""
        return [project for project in self._world.projects.values() if username in project.members]

    def may(self, username: str, project: Project, resource: str) -> bool:
        """Whether the person's role in the project space allows a resource of its API."""
        role = _role(project, username)
        if role is None or role["is_admin"]:
            return True
        permissions: Mapping[str, Any] = role["permissions"]
        needed = ["access_api", *(["edit_web_users"] if resource == "web-user" else [])]
        return all(permissions.get(name) for name in needed)

    def remove_member(self, domain: str, username: str) -> None:
        """Remove the person from the project space and from its list of web users."""
        project = self._world.projects[domain]
        project.members.discard(username)
        project.former_web_users |= {user["username"]: user for user in project.people.web_users}
        project.people.web_users[:] = [user for user in project.people.web_users if user["username"] != username]

    def add_member(self, domain: str, username: str) -> None:
        """Make the person a member again, in the role of before."""
        project = self._world.projects[domain]
        project.members.add(username)
        former = project.former_web_users.get(username)
        if former is not None and _role(project, username) is None:
            project.people.web_users.append(former)

    def set_role(self, domain: str, username: str, role: str, is_admin: bool, permissions: Mapping[str, bool]) -> None:
        """Change the member's role. Raises: KeyError."""
        found = _role(self._world.projects[domain], username)
        if found is None:
            raise KeyError(f"{username} is no web user of {domain}")
        found |= {"role": role, "is_admin": is_admin, "permissions": {**found["permissions"], **permissions}}


def _role(project: Project, username: str) -> dict[str, Any] | None:
    return next((user for user in project.people.web_users if user["username"] == username), None)
