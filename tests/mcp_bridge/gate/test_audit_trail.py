"""What a bridge writes beside its calls: signed heads into its log, and refused tokens into the trail."""

import signal
from pathlib import Path

import httpx

from explorer.catalog import HeadKey
from explorer.catalog.audit.heads import find_heads
from explorer.catalog.audit.verification import verify
from tests.mcp_bridge.stage import Stage, ask, bridge_process, on_http


def test_heads_are_logged_and_refused_tokens_are_counted(stage: Stage, tmp_path: Path) -> None:
    token = stage.token("head-reader", "demo:one")
    start = stage.catalog.audit.head().id
    with bridge_process(stage, tmp_path, EXPLORER_LOG_LEVEL="error") as (url, process):
        on_http(url, token, lambda client: ask(client, "list_tables"))
        for _ in range(3):
            answer = httpx.post(
                f"{url}/mcp", headers={"authorization": "Bearer dex_nobody"}, trust_env=False, timeout=30
            )
            assert answer.status_code == 401
        process.send_signal(signal.SIGTERM)
        process.wait(30)
    log = (tmp_path / "bridge.log").read_text().splitlines()
    key = HeadKey.load(stage.settings)
    heads = list(find_heads(log))
    assert heads[-1].head.id > start
    found = verify(stage.catalog.audit, heads, key)
    assert (found.fault, found.heads) == (None, len(heads))
    refused = [r.entry for r in stage.catalog.audit.read(actor="anonymous") if r.id > start]
    assert {(entry.action, entry.outcome) for entry in refused} == {("refused_token", "denied")}
    # Other bridges of this server may still write what they had refused before.
    assert sum(entry.detail["count"] for entry in refused) >= 3
