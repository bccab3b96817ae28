"""Pipeline files: the shipped one is valid, and every fault is reported with file, line and key."""

import re
from pathlib import Path

import pytest
import yaml

from explorer.providers import faults_of
from explorer.registry import PipelineInvalid, load_pipeline, load_pipelines

ROOT = Path(__file__).resolve().parents[3]
SHIPPED = ROOT / "pipelines" / "commcare_sync.yml"


def broken(tmp_path: Path, old: str, new: str) -> Path:
    text = SHIPPED.read_text()
    assert old in text
    path = tmp_path / "broken.yml"
    path.write_text(text.replace(old, new, 1))
    return path


def line_of(path: Path, text: str) -> int:
    return next(number for number, line in enumerate(path.read_text().splitlines(), 1) if text in line)


def test_the_shipped_pipeline_names_every_resource() -> None:
    pipeline = load_pipelines(ROOT / "pipelines")["commcare_sync"]
    assert set(pipeline.source_names) >= {
        "cases", "forms", "users", "web_users", "groups", "locations", "lookup_tables", "lookup_table_items",
    }  # fmt: skip
    assert pipeline.source("users").passes[1].params == {"archived": "true"}
    assert pipeline.schedule
    assert pipeline.schedule.default_status == "stopped"


def test_structure_and_transforms_may_be_left_out_and_there_is_one_structure_at_most(tmp_path: Path) -> None:
    data = yaml.safe_load(SHIPPED.read_text())
    path = tmp_path / "pipeline.yml"
    path.write_text(yaml.safe_dump({key: data[key] for key in data if key not in ("discovery", "transforms")}))
    bare = load_pipeline(path, faults_of)
    assert (bare.discovery, bare.transforms) == ((), None)
    second = {"name": "second", "endpoint": "x", "description": ""}
    path.write_text(yaml.safe_dump({**data, "discovery": [*data["discovery"], second]}))
    with pytest.raises(PipelineInvalid, match="discovery: Tuple should have at most 1 item"):
        load_pipeline(path, faults_of)


@pytest.mark.parametrize(
    ("old", "new", "line_text", "key"),
    [
        ("    paging: cursor", "    paging: curser", "paging: curser", "sources.0.paging"),
        ("    proof: bulk", "    proof: bulky", "proof: bulky", "sources.0.proof"),
        ("    page_size: 1000", "    page_size: 100000", "page_size: 100000", "sources.0.page_size"),
        ("    table: raw_cases", "    tabel: raw_cases", "tabel: raw_cases", "sources.0.tabel"),
        ('  cron: "0 */6 * * *"', '  cron: "hourly"', 'cron: "hourly"', "schedule.cron"),
        ('  cron: "0 */6 * * *"', '  cron: "0 0 30 2 *"', 'cron: "0 0 30 2 *"', "schedule.cron"),
        ('  cron: "0 */6 * * *"', '  cron: "R * * * *"', 'cron: "R * * * *"', "schedule.cron"),
        ("  timezone: UTC", "  timezone: Mars/Base", "Mars/Base", "schedule.timezone"),
        ("    primary_key: form_id", "    primary_key: id", "- name: forms", "sources.1"),
        ("    primary_key: form_id", "    primary_key: form_id\n    max_page_size: 1", "- name: forms", "sources.1"),
        (
            "    primary_key: form_id",
            "    primary_key: form_id\n    max_windows: 0",
            "max_windows: 0",
            "sources.1.max_windows",
        ),
    ],
)
def test_a_fault_is_named_with_file_line_and_key(tmp_path: Path, old: str, new: str, line_text: str, key: str) -> None:
    path = broken(tmp_path, old, new)
    with pytest.raises(PipelineInvalid) as caught:
        load_pipeline(path, faults_of)
    assert f"{path}:{line_of(path, line_text)}: {key}" in caught.value.message


def rows_source(**changes: object) -> dict[str, object]:
    """A source that is walked once per group, as a pipeline file would have it."""
    described: dict[str, object] = {
        "name": "rows", "table": "raw_rows", "description": "", "endpoint": "ucr/v1/", "paging": "link", "collection": "objects",
        "primary_key": "row_id", "key_from": "content", "keys": {"row_id": "text", "group_id": "text"},
        "for_each": {"source": "groups", "param": "data_source_id", "key": "group_id", "column": "group_id"},
    }  # fmt: skip
    return {key: value for key, value in {**described, **changes}.items() if value is not None}


def shipped_with(tmp_path: Path, *extra: dict[str, object], first: bool = False) -> Path:
    data = yaml.safe_load(SHIPPED.read_text())
    data["sources"] = [*extra, *data["sources"]] if first else [*data["sources"], *extra]
    path = tmp_path / "extended.yml"
    path.write_text(yaml.safe_dump(data, sort_keys=False))
    return path


def test_a_source_may_be_walked_once_per_record_of_an_earlier_one(tmp_path: Path) -> None:
    source = load_pipeline(shipped_with(tmp_path, rows_source(page_size=1000, max_page_size=10_000)), faults_of).source(
        "rows"
    )
    assert source.for_each
    assert (source.for_each.source, source.for_each.column, source.largest_page) == ("groups", "group_id", 10_000)
    assert load_pipeline(shipped_with(tmp_path, rows_source()), faults_of).source("rows").largest_page == 1000


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        (
            {"for_each": {"source": "tribes", "param": "x", "key": "group_id", "column": "group_id"}},
            "no earlier source",
        ),
        ({"for_each": {"source": "rows", "param": "x", "key": "row_id", "column": "group_id"}}, "no earlier source"),
        ({"for_each": {"source": "groups", "param": "x", "key": "shape", "column": "group_id"}}, "keys of groups"),
        ({"for_each": {"source": "groups", "param": "x", "key": "group_id", "column": "shape"}}, "not among keys"),
        ({"for_each": {"source": "groups", "key": "group_id", "column": "group_id"}}, r"for_each\.param"),
        ({"cursor": {"field": "group_id"}}, "exclude each other"),
        ({"keys": {"row_id": "bigint", "group_id": "text"}}, "key_from content"),
        ({"key_from": "wish"}, "key_from"),
        ({"key_from": "occurrence"}, "needs each record once"),
        ({"proof": "record"}, "key_from content has none"),
        ({"proof": "bulk", "key_from": "field"}, r"proof bulk is of case API v2 \(collection cases\)"),
        ({"paging": "curser"}, r"Input should be 'cursor', 'indexed_on', 'offset', 'link' or 'single'"),
    ],
)
def test_references_that_lead_nowhere_are_refused(tmp_path: Path, changes: dict[str, object], complaint: str) -> None:
    with pytest.raises(PipelineInvalid, match=complaint):
        load_pipeline(shipped_with(tmp_path, rows_source(**changes)), faults_of)


def test_a_reference_to_a_later_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PipelineInvalid, match="'groups' is no earlier source"):
        load_pipeline(shipped_with(tmp_path, rows_source(), first=True), faults_of)


def test_the_full_refresh_has_a_schedule_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "p.yml"
    text = re.sub(r"(?m)^full_refresh:\n(?:[ #].*\n)+", "", SHIPPED.read_text())
    path.write_text(text + 'full_refresh: {cron: "0 3 * * 0", timezone: Asia/Kolkata}\n')
    refresh = load_pipeline(path, faults_of).full_refresh
    assert refresh
    assert (refresh.cron, refresh.timezone, refresh.default_status) == ("0 3 * * 0", "Asia/Kolkata", "stopped")
    path.write_text(text + "full_refresh: {cron: weekly}\n")
    with pytest.raises(PipelineInvalid, match=r"full_refresh\.cron"):
        load_pipeline(path, faults_of)


def test_a_name_used_twice_is_refused(tmp_path: Path) -> None:
    path = broken(tmp_path, "  - name: forms", "  - name: cases")
    with pytest.raises(PipelineInvalid, match="used twice: cases"):
        load_pipeline(path, faults_of)


def test_broken_yaml_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "broken.yml"
    path.write_text("name: x\ntitle: [unclosed\ndescription: y\n")
    with pytest.raises(PipelineInvalid, match=r"broken\.yml:\d+: not valid YAML"):
        load_pipeline(path, faults_of)


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "just text"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "odd.yml"
    path.write_text(text)
    with pytest.raises(PipelineInvalid, match="mapping"):
        load_pipeline(path, faults_of)


def test_one_name_in_two_files_is_refused(tmp_path: Path) -> None:
    for name in ("a.yml", "b.yml"):
        (tmp_path / name).write_text(SHIPPED.read_text())
    with pytest.raises(PipelineInvalid, match="already used"):
        load_pipelines(tmp_path)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PipelineInvalid, match="No pipeline file"):
        load_pipelines(tmp_path)
