"""The page that a server shows at `/`: several chats side by side, and the live batch under them.

Three plain files, which a browser is given as they are. They need nothing from anywhere else.
"""

from pathlib import Path

PAGE_FILES = {"index.html": "text/html", "app.js": "text/javascript", "style.css": "text/css"}
"""Their names, and as what they are sent."""

PAGE_POLICY = "default-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
"""The content security policy: the page loads nothing from elsewhere, and a script in a model's answer would not run."""


def read_page_file(name: str) -> bytes:
    """The content of one of `PAGE_FILES`."""
    return (Path(__file__).parent / name).read_bytes()
