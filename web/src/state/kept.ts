// What outlives a reload: signals that are kept in the browser's storage.
import { effect, signal, type Signal } from "@preact/signals";

const WRITE_AFTER = 1_000; // milliseconds: an answer that is being written changes many times a second
const unwritten = new Map<string, () => void>();
let timer: ReturnType<typeof setTimeout> | undefined;

/** Return a signal whose value is read from the browser's storage, and written there soon after it changes.
 *
 * Where the storage is full, `smaller` of the value is kept instead. */
export function kept<T>(name: string, initial: T, valid: (value: unknown) => value is T, smaller?: (value: T) => T): Signal<T> {
  const place = `trimtab.${name}`;
  const found = signal(read(place, initial, valid));
  let first = true;
  effect(() => {
    const value = found.value;
    if (first) {
      first = false;
      return;
    }
    unwritten.set(place, () => {
      if (!write(place, value) && smaller) write(place, smaller(value));
    });
    timer ??= setTimeout(writeAll, WRITE_AFTER);
  });
  return found;
}

/** Return whether a value is kept from before. */
export function isKept(name: string): boolean {
  try {
    return localStorage.getItem(`trimtab.${name}`) !== null;
  } catch {
    return false;
  }
}

function writeAll(): void {
  clearTimeout(timer);
  timer = undefined;
  for (const each of unwritten.values()) each();
  unwritten.clear();
}

addEventListener("pagehide", writeAll);
document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "hidden") writeAll();
});

function write(place: string, value: unknown): boolean {
  try {
    localStorage.setItem(place, JSON.stringify(value));
    return true;
  } catch {
    return false; // full or forbidden, which loses nothing of what is on the page
  }
}

function read<T>(place: string, initial: T, valid: (value: unknown) => value is T): T {
  try {
    const value: unknown = JSON.parse(localStorage.getItem(place) ?? "null");
    return valid(value) ? value : initial;
  } catch {
    return initial; // left by another version
  }
}

export function isString(value: unknown): value is string {
  return typeof value === "string";
}

export function isBoolean(value: unknown): value is boolean {
  return typeof value === "boolean";
}
