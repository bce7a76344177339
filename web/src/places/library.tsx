// Library: all vectors and behaviours, presets; and the card of one vector at #/library/NAME.
import { signal } from "@preact/signals";
import { CardPage } from "../parts/card-page";
import { Presets } from "../parts/presets";
import { Undo } from "../parts/undo";
import { Upload } from "../parts/upload";
import { VectorTable } from "../parts/vector-table";
import "./library.css";

const shown = signal(named(location.hash));
addEventListener("hashchange", () => (shown.value = named(location.hash)));

/** Return the vector whose card an address names. */
function named(hash: string): string | null {
  const match = /^#\/?library\/(.+)$/.exec(hash);
  try {
    return match ? decodeURIComponent(match[1]!) : null;
  } catch {
    return null; // a broken escape
  }
}

export function Library() {
  if (shown.value !== null) return <CardPage key={shown.value} name={shown.value} />;
  return (
    <main id="main" tabIndex={-1} class="page wide stack">
      <h1>Library</h1>
      <Undo />
      <VectorTable />
      <Upload />
      <Presets />
    </main>
  );
}
