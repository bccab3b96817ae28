"""A small host of MCP Apps: a page that shows a view in a sandbox, answers its handshake and gives it the answer of a call."""

import json
from typing import Any

from playwright.sync_api import FrameLocator, Page

from mcp_bridge.views.pages import RESULT, page

# The view must live with what hosts enforce when nothing is declared, and with nothing of the host's own origin.
_HOST = """<!doctype html><meta charset="utf-8"><title>Host</title><body style="margin:0">
<iframe id="view" title="view" sandbox="allow-scripts" style="width:100%;height:640px;border:0"></iframe>
<script>
window.told = [];
const view = document.getElementById("view"), told = window.told;
const send = (message) => view.contentWindow.postMessage({jsonrpc: "2.0", ...message}, "*");
window.addEventListener("message", (event) => {
  if (event.source !== view.contentWindow) return;
  const message = event.data;
  told.push(message);
  if (message.method === "ui/initialize")
    send({id: message.id, result: {protocolVersion: "2026-01-26", hostInfo: {name: "test", version: "1"}, hostCapabilities: {},
          hostContext: window.given.context}});
  if (message.method === "ui/notifications/initialized") {
    send({method: "ui/notifications/tool-input", params: {arguments: {}}});
    send({method: "ui/notifications/tool-result", params: window.given.result});
  }
});
</script>"""


def shown(browser_page: Page, result: dict[str, Any], **context: Any) -> FrameLocator:
    """Open the view with the answer of a call; its frame."""
    found = page(RESULT)
    assert found is not None
    content = found.contents[0].model_dump(by_alias=True, mode="json")
    assert content["mimeType"] == "text/html;profile=mcp-app"
    browser_page.set_content(_HOST)
    browser_page.evaluate(
        "given => { window.given = given; }", json.loads(json.dumps({"result": result, "context": context}))
    )
    browser_page.evaluate("html => { document.getElementById('view').srcdoc = html; }", content["text"])
    return browser_page.frame_locator("#view")
