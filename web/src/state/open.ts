// Drawers that more than one place opens.
import { signal } from "@preact/signals";

/** Vector of which *Where it breaks* is shown; null while it is closed. */
export const breaksOf = signal<string | null>(null);
/** Whether *Use in my app* is shown. */
export const codeOpen = signal(false);
export const keysOpen = signal(false);
/** Whether the form is shown that saves the dials as a preset. */
export const presetOpen = signal(false);

export function openBreaks(name: string): void {
  breaksOf.value = name;
}

export function openCode(): void {
  codeOpen.value = true;
}

export function openCard(name: string): void {
  location.hash = `library/${encodeURIComponent(name)}`;
}
