// The dials and what is made of them: beside the answers, or a sheet from below on a phone.
import { signal } from "@preact/signals";
import { dials } from "../state/dials";
import { openCode, presetOpen } from "../state/open";
import { info, vectors } from "../state/server";
import { addOpen } from "./add-vector";
import { Budget, TextForm } from "./budget";
import { Dial } from "./dial";

export const sheetOpen = signal(false);

/** Open the sheet of a phone, with the focus in it. */
export function openSheet(): void {
  sheetOpen.value = true;
  requestAnimationFrame(() => document.querySelector<HTMLElement>(".sheet-closer")?.focus());
}

export function closeSheet(): void {
  if (!sheetOpen.value) return;
  sheetOpen.value = false;
  document.querySelector<HTMLElement>(".sheet-opener")?.focus();
}

export function Rail() {
  const none = info.value !== null && vectors.value.length === 0;
  return (
    <aside id="dials" class={sheetOpen.value ? "rail open" : "rail"} aria-label="Dials">
      <div class="row">
        <h2 class="grow">Dials</h2>
        <button type="button" class="sheet-closer" onClick={closeSheet}>Close<span class="vh"> the dials</span></button>
      </div>
      {none && (
        <div class="notice">
          <p>There are no vectors for {info.value!.model.name} yet. <a href="#/make">Train one</a>: a few minutes.</p>
        </div>
      )}
      {dials.value.map((dial, at) => <Dial key={`${dial.name}${dial.text ?? ""}`} dial={dial} at={at} />)}
      <button type="button" onClick={() => (addOpen.value = true)}>+ Add a behaviour</button>
      <Budget />
      <TextForm />
      <div class="row">
        <button type="button" onClick={() => (presetOpen.value = true)}>Save as preset</button>
        <button type="button" aria-keyshortcuts="c" title="C" onClick={openCode}>Use in my app</button>
      </div>
    </aside>
  );
}
