// What a screen reader is told: that something has ended, never its tokens.
import { signal } from "@preact/signals";

export const announced = signal("");

/** Say something once in the page's live region. */
export function announce(text: string): void {
  // The same words twice are no change for a screen reader, unless something differs.
  announced.value = announced.value === text ? `${text}\u00a0` : text;
}
