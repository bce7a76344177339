import { again, ask, busy, stop } from "../state/answering";
import { draft, stale, turns } from "../state/talk";
import { dials, klOf, mixText, signed, text } from "../state/dials";
import { closeSheet, openSheet, sheetOpen } from "./rail";

/** The message to send. Enter sends it, Shift with Enter begins a line. */
export function Composer() {
  const last = turns.value.at(-1);
  const send = () => {
    const text = draft.value.trim();
    if (!text) return;
    draft.value = "";
    ask(text);
    requestAnimationFrame(() => document.querySelector("article:last-of-type")?.scrollIntoView({ block: "start" }));
  };
  return (
    <form
      class="composer"
      onSubmit={(event) => {
        event.preventDefault();
        send();
      }}
    >
      <button type="button" class="sheet-opener" aria-expanded={sheetOpen.value} aria-controls="dials" onClick={sheetOpen.value ? closeSheet : openSheet}>
        {dials.value.map((dial, n) => {
          const kl = klOf(dial);
          return <span key={n} class="number">{dial.text ?? `${dial.name} ${dial.on ? signed(dial.strength) : "off"}`}{kl ? ` · ${kl.toFixed(2)} nat` : ""}</span>;
        })}
        <b>Dials</b>
      </button>
      {stale.value && last && <p class="stale small">The answers are of <code>{mixText(last.dials)}</code>, the dials are at <code>{text.value}</code>.</p>}
      <label for="message" class="vh">Your message</label>
      <textarea
        id="message"
        rows={1}
        placeholder={turns.value.length ? "Ask with and without the dials…" : "How was your day?"}
        value={draft.value}
        onInput={(event) => (draft.value = event.currentTarget.value)}
        onKeyDown={(event) => {
          if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
          event.preventDefault();
          send();
        }}
      />
      {busy.value && <button type="button" onClick={stop} title="Esc">Stop</button>}
      {last && !busy.value && (
        <button type="button" class={(stale.value || last.example) && !draft.value.trim() ? "go" : ""} onClick={again} aria-keyshortcuts="r" title="R">
          {last.example ? "Answer" : "Answer again"}
        </button>
      )}
      <button class={draft.value.trim() ? "go" : ""} disabled={!draft.value.trim()}>Send</button>
    </form>
  );
}
