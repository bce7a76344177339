"""``python -m trimtab.server.document`` prints the server's OpenAPI document, from which the page's types are made."""

from __future__ import annotations

import json

from trimtab.engines.fake import FakeEngine
from trimtab.server.app import create_app
from trimtab.server.settings import ServerSettings


def main() -> None:
    """Print the document; it is the same for every model."""
    app = create_app(FakeEngine(), ServerSettings(model="model"))
    print(json.dumps(app.openapi(), indent=1))


if __name__ == "__main__":
    main()
