// Keys of the whole page. Each of them has a button as well.
import { signal } from "@preact/signals";
import { isBoolean, kept } from "./kept";
import { keysOpen, openCode } from "./open";

export interface Shortcut {
  readonly key: string;
  readonly does: string;
  readonly run: () => void;
}

/** Keys of the place that is shown. */
export const placeKeys = signal<readonly Shortcut[]>([]);
/** Whether single letters are shortcuts: they get in the way of some speech input. */
export const lettersOn = kept("letters", true, isBoolean);

const everywhere: readonly Shortcut[] = [
  { key: "c", does: "Code for your application", run: openCode },
  { key: "?", does: "This list", run: () => (keysOpen.value = true) },
];

export function shortcuts(): readonly Shortcut[] {
  return [...placeKeys.value, ...everywhere];
}

export function listenForKeys(): void {
  addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key !== "Escape" && (!lettersOn.value || takesText(event.target))) return;
    if (document.querySelector("dialog[open]")) return;
    const found = shortcuts().find((shortcut) => shortcut.key === (event.key.length === 1 ? event.key.toLowerCase() : event.key));
    if (!found) return;
    event.preventDefault();
    found.run();
  });
}

function takesText(target: EventTarget | null): boolean {
  if (target instanceof HTMLInputElement) return !["checkbox", "radio", "button", "range"].includes(target.type);
  return target instanceof HTMLTextAreaElement || target instanceof HTMLSelectElement;
}
