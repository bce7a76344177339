// What outlives a reload: signals that are kept in the browser's storage.
import { effect, signal, type Signal } from "@preact/signals";

/** Return a signal whose value is read from the browser's storage, and written there as it changes. */
export function kept<T>(name: string, initial: T, valid: (value: unknown) => value is T): Signal<T> {
  const place = `trimtab.${name}`;
  const found = signal(read(place, initial, valid));
  effect(() => {
    try {
      localStorage.setItem(place, JSON.stringify(found.value));
    } catch {
      // Storage that is full or forbidden loses nothing of what is on the page.
    }
  });
  return found;
}

function read<T>(place: string, initial: T, valid: (value: unknown) => value is T): T {
  try {
    const value: unknown = JSON.parse(localStorage.getItem(place) ?? "null");
    return valid(value) ? value : initial;
  } catch {
    return initial; // left by another version
  }
}
