"""Arguments that many commands share."""

from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Answer with one JSON document.")]
Key = Annotated[str, typer.Argument(metavar="KEY", help="The tenant's key, such as www:my-domain.", show_default=False)]
