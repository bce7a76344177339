"""What a person without a pointer does: Tab to a control, and press keys there."""

from __future__ import annotations

from playwright.sync_api import Locator, Page

MOST = 120  # presses of Tab to get anywhere


def is_focused(target: Locator) -> bool:
    """Return True if an element has the focus."""
    return bool(target.evaluate("element => element === document.activeElement"))


def reach(page: Page, target: Locator, *, back: bool = False) -> Locator:
    """Press Tab (or Shift+Tab) until an element has the focus; it must be seen that it has."""
    target.wait_for()
    for _ in range(MOST):
        if is_focused(target):
            assert target.evaluate("element => element.matches(':focus-visible')")
            return target
        page.keyboard.press("Shift+Tab" if back else "Tab")
    raise AssertionError(f"Tab does not lead to {target}")


def press(page: Page, target: Locator, key: str = "Enter") -> None:
    """Reach a control and press a key there."""
    reach(page, target)
    page.keyboard.press(key)


def write(page: Page, target: Locator, text: str) -> None:
    """Reach a field and type in place of what it has."""
    reach(page, target)
    page.keyboard.press("Control+A")
    page.keyboard.type(text)
