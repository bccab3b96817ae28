"""Pages that hosts show beside answers (MCP Apps): each is one self-contained document, without any network."""
