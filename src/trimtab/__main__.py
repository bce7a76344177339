"""``python -m trimtab`` is ``trimtab``."""

from trimtab.cli import main

main()
