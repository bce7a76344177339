// One dial: range and number together, over a track that shows where text holds together.
import { turn as set, type Dial as Value, isInside, klOf, MAX_STRENGTH, type Range, remove, safeOf, signed, STEP, tidy } from "../state/dials";
import { openBreaks, openCard } from "../state/open";
import { info, unusable, vectorOf } from "../state/server";
import { nats } from "../state/words";

const PAGE = 0.25;

export function Dial({ dial, at }: { readonly dial: Value; readonly at: number }) {
  const vector = vectorOf.value.get(dial.name);
  if (dial.text !== undefined) return <FixedTerm text={dial.text} at={at} on={dial.on} />;
  if (!vector && info.value) return <Missing name={dial.name} at={at} />;
  const safe = safeOf(vector);
  const id = `dial-${at}`;
  const plus = vector?.poles?.["+"] ?? dial.name;
  const minus = vector?.poles?.["-"] ?? "the opposite";
  const inside = isInside(dial.strength, safe);
  const turn = (strength: number) => set(at, { strength: tidy(Math.min(Math.max(strength, -MAX_STRENGTH), MAX_STRENGTH)) });
  const towards = dial.strength === 0 ? "off" : `${signed(dial.strength)} towards ${dial.strength > 0 ? plus : minus}`;
  const kl = klOf(dial);
  const spends = kl === null ? "" : nats(kl);
  const limits = safe && `${signed(safe.low)} to ${signed(safe.high)}`;
  const beyond = inside ? "" : `outside of its safe range, ${limits}: ${reason(safe!)}`;
  return (
    <section class="dial card" aria-labelledby={`${id}-name`} data-dial={dial.name}>
      <div class="row head">
        <h2 id={`${id}-name`}>{dial.name}</h2>
        {vector?.verdict && <span class="tag" title="Verdict of its card">{vector.verdict}</span>}
        <label class="check end">
          <input type="checkbox" checked={dial.on} aria-label={`${dial.name} is on`} onChange={(event) => set(at, { on: event.currentTarget.checked })} />
          on
        </label>
        <button type="button" class="quiet icon" aria-label={`Remove ${dial.name}`} title="Remove" onClick={() => remove(at)}>✕</button>
      </div>
      <div class={dial.on ? "range" : "range off"}>
        <Track safe={safe} strength={dial.strength} />
        <input
          id={id}
          type="range"
          min={-MAX_STRENGTH}
          max={MAX_STRENGTH}
          step="any"
          value={dial.strength}
          disabled={!dial.on}
          aria-label={`${dial.name}: strength`}
          aria-valuetext={[towards, spends, beyond].filter(Boolean).join(", ")}
          data-range
          onInput={(event) => turn(Math.round(Number(event.currentTarget.value) / STEP) * STEP)}
          onKeyDown={(event) => {
            const next = keyed(event.key, dial.strength, safe);
            if (next === null || event.ctrlKey || event.metaKey || event.altKey) return;
            event.preventDefault();
            turn(next);
          }}
        />
      </div>
      <div class="poles small">
        <span class="minus">− {minus}</span>
        <span class="soft" aria-hidden="true">0</span>
        <span class="plus">{plus} +</span>
      </div>
      <div class="row says">
        <input
          type="number"
          min={-MAX_STRENGTH}
          max={MAX_STRENGTH}
          step={STEP}
          value={dial.strength}
          disabled={!dial.on}
          aria-label={`${dial.name}: strength as a number`}
          onChange={(event) => {
            const value = event.currentTarget.valueAsNumber;
            if (Number.isFinite(value)) turn(value);
            event.currentTarget.value = String(dial.strength);
          }}
        />
        <span class="number small grow">
          {dial.on ? spends || "…" : "off"}
          {inside && <span class="soft"> · {safe ? `safe from ${limits}` : "safe range not measured"}</span>}
        </span>
      </div>
      {beyond && <p class="warn small">▲ {sentence(beyond)}</p>}
      <div class="row">
        <button type="button" class="small" onClick={() => openBreaks(dial.name)}>
          Find where it breaks<span class="vh">: {dial.name}</span>
        </button>
        <button type="button" class="quiet small" onClick={() => openCard(dial.name)}>
          Card<span class="vh"> of {dial.name}</span>
        </button>
      </div>
    </section>
  );
}

/** Return the strength to which a key turns a dial; null for other keys. */
function keyed(key: string, strength: number, safe: Range | null): number | null {
  if (key === "ArrowRight" || key === "ArrowUp") return strength + STEP;
  if (key === "ArrowLeft" || key === "ArrowDown") return strength - STEP;
  if (key === "PageUp") return strength + PAGE;
  if (key === "PageDown") return strength - PAGE;
  if (key === "Home") return safe?.low ?? -MAX_STRENGTH;
  if (key === "End") return safe?.high ?? MAX_STRENGTH;
  return key === "0" ? 0 : null;
}

/** The part in brackets of why a range ends where it does. */
function reason(safe: Range): string {
  return /\((.*)\)$/.exec(safe.why)?.[1]?.replace(/^beyond, /, "") ?? safe.why;
}

function sentence(text: string): string {
  return text[0]!.toUpperCase() + text.slice(1);
}

/** The safe range, hatched outside of it, and how far the dial is from 0: solid towards plus, dashed towards minus. */
function Track({ safe, strength }: { readonly safe: Range | null; readonly strength: number }) {
  const place = (value: number) => `${((value + MAX_STRENGTH) / (2 * MAX_STRENGTH)) * 100}%`;
  const range = safe ?? { low: -MAX_STRENGTH, high: MAX_STRENGTH };
  const from = Math.min(strength, 0);
  const to = Math.max(strength, 0);
  return (
    <div class="track" aria-hidden="true">
      <i class="safe" style={{ left: place(range.low), right: `calc(100% - ${place(range.high)})` }} />
      <i class={strength < 0 ? "turned minus" : "turned"} style={{ left: place(from), right: `calc(100% - ${place(to)})` }} />
      <i class="zero" />
    </div>
  );
}

/** A term that no dial can turn, such as one with a condition. */
function FixedTerm({ text, at, on }: { readonly text: string; readonly at: number; readonly on: boolean }) {
  return (
    <section class="dial card fixed" aria-label={`Term ${text}`}>
      <div class="row head">
        <code class="grow">{text}</code>
        <label class="check">
          <input type="checkbox" checked={on} aria-label={`${text} is on`} onChange={(event) => set(at, { on: event.currentTarget.checked })} />
          on
        </label>
        <button type="button" class="quiet icon" aria-label={`Remove ${text}`} title="Remove" onClick={() => remove(at)}>✕</button>
      </div>
      <p class="hint">Only its text form can change it.</p>
    </section>
  );
}

function Missing({ name, at }: { readonly name: string; readonly at: number }) {
  return (
    <section class="dial card" aria-label={`Dial ${name}, which cannot be turned`}>
      <div class="row head">
        <h2 class="grow">{name}</h2>
        <button type="button" class="quiet icon" aria-label={`Remove ${name}`} title="Remove" onClick={() => remove(at)}>✕</button>
      </div>
      <p class="small">
        <span class="warn">▲ Not used: </span>
        {unusable.value[name] ?? "there is no vector of this name for this model."} <a href="#/make">Train it for this model</a>
      </p>
    </section>
  );
}
