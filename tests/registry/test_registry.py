"""Pipeline files: the shipped one is right, and every fault is named with file, line and key."""

from pathlib import Path

import pytest

from explorer_dagster.registry import PipelineInvalid, load_pipeline, load_pipelines

ROOT = Path(__file__).resolve().parents[2]
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
    assert pipeline.source_names == (
        "cases", "forms", "users", "web_users", "groups", "locations", "lookup_tables", "lookup_table_items",
    )  # fmt: skip
    assert pipeline.source("users").passes[1].params == {"archived": "true"}
    assert pipeline.schedule
    assert pipeline.schedule.default_status == "stopped"


@pytest.mark.parametrize(
    ("old", "new", "line_text", "key"),
    [
        ("    paging: cursor", "    paging: curser", "paging: curser", "sources.0.paging"),
        ("    page_size: 1000", "    page_size: 100000", "page_size: 100000", "sources.0.page_size"),
        ("    table: raw_cases", "    tabel: raw_cases", "tabel: raw_cases", "sources.0.tabel"),
        ('  cron: "0 */6 * * *"', '  cron: "hourly"', 'cron: "hourly"', "schedule.cron"),
        ("  timezone: UTC", "  timezone: Mars/Base", "Mars/Base", "schedule.timezone"),
        ("    primary_key: form_id", "    primary_key: id", "- name: forms", "sources.1"),
    ],
)
def test_a_fault_is_named_with_file_line_and_key(tmp_path: Path, old: str, new: str, line_text: str, key: str) -> None:
    path = broken(tmp_path, old, new)
    with pytest.raises(PipelineInvalid) as caught:
        load_pipeline(path)
    assert f"{path}:{line_of(path, line_text)}: {key}" in caught.value.message


def test_a_name_used_twice_is_refused(tmp_path: Path) -> None:
    path = broken(tmp_path, "  - name: forms", "  - name: cases")
    with pytest.raises(PipelineInvalid, match="used twice: cases"):
        load_pipeline(path)


def test_broken_yaml_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "broken.yml"
    path.write_text("name: x\ntitle: [unclosed\ndescription: y\n")
    with pytest.raises(PipelineInvalid, match=r"broken\.yml:\d+: not valid YAML"):
        load_pipeline(path)


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "just text"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "odd.yml"
    path.write_text(text)
    with pytest.raises(PipelineInvalid, match="mapping"):
        load_pipeline(path)


def test_one_name_in_two_files_is_refused(tmp_path: Path) -> None:
    for name in ("a.yml", "b.yml"):
        (tmp_path / name).write_text(SHIPPED.read_text())
    with pytest.raises(PipelineInvalid, match="already used"):
        load_pipelines(tmp_path)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PipelineInvalid, match="No pipeline file"):
        load_pipelines(tmp_path)
