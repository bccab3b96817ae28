"""`explorer models`: through the bridge's own tools, as the operator, so that each statement is checked as an agent's is."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from explorer.core.errors import ExplorerError
from explorer_cli.errors import UsageInvalid
from explorer_cli.operations.bridge_client import Tools, as_operator
from explorer_cli.output.terminal import answer_json, say, write
from explorer_cli.platform.context import open_settings
from explorer_cli.platform.store import open_store

Given = tuple[Sequence[str], Sequence[str], Sequence[str]]
"""Columns that are unique, those that are not null, and `column=value,...`."""


def show_list(key: str, *, as_json: bool) -> int:
    """A line for each model."""
    data = _call("list_models", {"tenant": key})
    if as_json:
        answer_json(data)
        return 0
    for model in data["models"]:
        rows = f"{model['rows']} rows" if model.get("rows") is not None else "no rows"
        failing = f", failing: {', '.join(model['failing_tests'])}" if model.get("failing_tests") else ""
        say(
            (model["name"], "bold"),
            f"  {model['state']}, {rows}{failing}; version {model['version']} by {model['owner']}",
        )
        say(f"    {model['description']} Reads {', '.join(model['reads'])}.")
        if model.get("error"):
            say((f"    {model['error']}", "red"))
    say((f"{data['total']} of at most {data['most']} models", "dim"))
    return 0


def show(key: str, name: str, *, as_json: bool) -> int:
    """The newest text, and who saved which version."""
    data = _call("list_models", {"tenant": key, "name": name})
    if as_json:
        answer_json(data)
        return 0
    if data.get("sql"):
        write(data["sql"])
    for version in data["versions"]:
        dropped = " (dropped)" if version.get("dropped") else ""
        say((f"-- version {version['version']}: {version['actor']}, {version['saved_at']}{dropped}", "dim"))
    return 0


def save(key: str, file: Path, description: str, tests: Given, *, dry_run: bool, as_json: bool) -> int:
    """Save the file's statement under the file's name."""
    arguments = {"tenant": key, "name": file.stem, "sql": _text(file), "description": description}
    data = _call("save_model", arguments | {"tests": _tests(tests), "dry_run": dry_run})
    if as_json:
        answer_json(data)
    else:
        _say_saved(data)
    return 0


def drop(key: str, name: str, *, as_json: bool) -> int:
    """Drop the model; the command is the confirmation."""
    data = _call("drop_model", {"tenant": key, "name": name, "confirm": name})
    if as_json:
        answer_json(data)
    else:
        say((name, "bold"), f" is dropped. {data['next_step']}")
    return 0


def export(key: str, folder: Path, *, as_json: bool) -> int:
    """Write the models' files. Files of other names are left alone."""
    from explorer.marts import Models, manifest
    from explorer.saved_models import exported

    settings = open_settings()
    with open_store(settings) as store:
        tenant = store.catalog.tenants.get(key)
        models = {name: text for name, (_, text) in store.catalog.saved_models.current(tenant).items()}
    stock = Models(manifest(settings, tenant.provider))
    sources = {each["name"]: each["source_name"] for each in stock.document["sources"].values()}

    def source_of(table: str) -> str | None:
        return None if table in stock.by_name else sources.get(table, tenant.provider)

    folder.mkdir(parents=True, exist_ok=True)
    names = []
    for name, text in exported(models, source_of):
        (folder / name).write_text(text, encoding="utf-8")
        names.append(name)
    if as_json:
        answer_json({"tenant": key, "folder": str(folder), "files": names})
    else:
        say((f"{len(models)} models", "green"), f" of {key} are in {folder}: {len(names)} files.")
    return 0


def import_(key: str, folder: Path, *, dry_run: bool, as_json: bool) -> int:
    """Try all, then save all: nothing is saved where one cannot be. Status 1 where there is such a one."""
    from explorer.saved_models import imported

    files = list(imported(folder))
    wishes = [
        {
            "tenant": key,
            "name": each.name,
            "sql": each.sql,
            "description": each.description or f"The model {each.name}.",
            "tests": {
                column: {
                    "unique": of.unique,
                    "not_null": of.not_null,
                    "accepted_values": list(of.accepted_values),
                }
                for column, of in each.tests.items()
            },
        }
        for each in files
    ]

    async def work() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        async with as_operator(open_settings()) as tools:
            faults = [fault for wish in wishes if (fault := await _fault(tools, wish)) is not None]
            if faults or dry_run:
                return [], faults
            return [(await tools.call("save_model", wish))["data"] for wish in wishes], []

    saved, faults = asyncio.run(work())
    if as_json:
        answer_json(
            {"tenant": key, "checked": len(wishes), "saved": [each["name"] for each in saved], "faults": faults}
        )
    for fault in faults if not as_json else ():
        say((fault["model"], "bold"), f": {fault['message']} {fault['next_step']}")
    for each in saved if not as_json else ():
        _say_saved(each)
    if not as_json and not saved:
        say(f"{len(wishes) - len(faults)} of {len(wishes)} models can be saved; nothing was saved.")
    return 1 if faults else 0


async def _fault(tools: Tools, wish: dict[str, Any]) -> dict[str, Any] | None:
    try:
        await tools.call("save_model", {**wish, "dry_run": True})
    except ExplorerError as error:
        return {"model": wish["name"], "code": error.code, "message": error.message, "next_step": error.next_step}
    return None


def _say_saved(data: dict[str, Any]) -> None:
    columns = ", ".join(f"{column['name']} {column['type']}" for column in data["columns"])
    version = f"version {data['version']} is saved" if data["saved"] else "not saved"
    say((data["name"], "bold"), f": {version}. {columns}. {data['next_step']}")


def _tests(given: Given) -> dict[str, dict[str, Any]]:
    unique, not_null, accepted = given
    found: dict[str, dict[str, Any]] = {}
    for column in unique:
        found.setdefault(column, {})["unique"] = True
    for column in not_null:
        found.setdefault(column, {})["not_null"] = True
    for each in accepted:
        column, sign, values = each.partition("=")
        if not sign or not values:
            raise UsageInvalid(f"--accepted {each} has no values.", next_step="Write --accepted column=value,value.")
        found.setdefault(column, {})["accepted_values"] = values.split(",")
    return found


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text in UTF-8"
        raise UsageInvalid(f"{file} cannot be read: {reason}.", next_step="Give a .sql file with one SELECT.") from None


def _call(tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
    async def work() -> dict[str, Any]:
        async with as_operator(open_settings()) as tools:
            return await tools.call(tool, arguments)

    data: dict[str, Any] = asyncio.run(work())["data"]
    return data
