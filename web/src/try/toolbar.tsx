// What is shown beside the steered answer, and how answers are made.
import { signal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { api, unwrap } from "../api";
import { forget } from "../state/answering";
import { dials } from "../state/dials";
import { asJson, asMarkdown, save } from "../state/export";
import { link } from "../state/link";
import { announce } from "../state/announce";
import { info, vectorOf, vectors } from "../state/server";
import { type Column, colourBy, live, promptText, sampling, setShown, shown, systemPrompt, turns } from "../state/talk";
import { actsOf } from "./acts";

const BESIDE: readonly (readonly [Column, string])[] = [
  ["plain", "as it is"],
  ["opposite", "the other way"],
  ["prompt", "a system prompt instead"],
];

export function Toolbar() {
  return (
    <div class="toolbar stack tight">
      <div class="row">
        <fieldset class="row">
          <legend class="vh">Beside the steered answer</legend>
          <span class="soft small" aria-hidden="true">Beside it</span>
          {BESIDE.map(([column, label]) => (
            <label key={column} class="check small">
              <input type="checkbox" checked={shown.value.includes(column)} onChange={(event) => setShown(column, event.currentTarget.checked)} />
              {label}
            </label>
          ))}
        </fieldset>
        <ColourBy />
        <button type="button" class="small" disabled={!turns.value.length || !vectorOf.value.has(colourBy.value)} onClick={() => (actsOf.value = turns.value.at(-1)!.id)}>
          Where it acts
        </button>
        <More />
      </div>
      {shown.value.includes("prompt") && <SystemPrompt />}
    </div>
  );
}

function ColourBy() {
  const names = [...new Set([...dials.value.map((dial) => dial.name), colourBy.value])].filter((name) => vectorOf.value.has(name));
  const others = vectors.value.map((vector) => vector.name).filter((name) => !names.includes(name));
  return (
    <label class="check small">
      Colour words by
      <select value={vectorOf.value.has(colourBy.value) ? colourBy.value : ""} onChange={(event) => (colourBy.value = event.currentTarget.value)}>
        <option value="">nothing</option>
        {names.map((name) => <option key={name}>{name}</option>)}
        {others.length > 0 && <optgroup label="Other vectors">{others.map((name) => <option key={name}>{name}</option>)}</optgroup>}
      </select>
    </label>
  );
}

function More() {
  const set = (part: Partial<typeof sampling.value>) => (sampling.value = { ...sampling.value, ...part });
  const most = info.value?.limits.answer_tokens ?? 4096;
  return (
    <details class="more" onKeyDown={closeOnEscape}>
      <summary class="small">More</summary>
      <div class="card stack">
        <NumberField label="Length in tokens, at most" min={1} max={most} step={1} value={sampling.value.maxTokens} onSet={(maxTokens) => set({ maxTokens })} />
        <NumberField label="Temperature; 0 is greedy" min={0} max={2} step={0.1} value={sampling.value.temperature} onSet={(temperature) => set({ temperature })} />
        <NumberField label="Seed" min={0} max={2 ** 31} step={1} value={sampling.value.seed} onSet={(seed) => set({ seed })} />
        <label class="check small">
          <input type="checkbox" checked={live.value} onChange={(event) => (live.value = event.currentTarget.checked)} />
          Answer again as I turn a dial
        </label>
        <div class="row">
          <button type="button" onClick={() => save("conversation.md", "text/markdown", asMarkdown())}>Save as Markdown</button>
          <button type="button" onClick={() => save("conversation.json", "application/json", asJson())}>Save as JSON</button>
          <button type="button" onClick={() => void navigator.clipboard?.writeText(link()).then(() => announce("Link copied"))}>Copy link</button>
        </div>
        <button type="button" onClick={forget}>New conversation</button>
      </div>
    </details>
  );
}

function closeOnEscape(event: KeyboardEvent): void {
  const details = event.currentTarget as HTMLDetailsElement;
  if (event.key !== "Escape" || !details.open) return;
  event.preventDefault();
  event.stopPropagation();
  details.open = false;
  details.querySelector("summary")?.focus();
}

function NumberField({ label, min, max, step, value, onSet }: {
  readonly label: string;
  readonly min: number;
  readonly max: number;
  readonly step: number;
  readonly value: number;
  readonly onSet: (value: number) => void;
}) {
  return (
    <label class="check small">
      <input
        type="number"
        {...{ min, max, step, value }}
        onChange={(event) => {
          const given = event.currentTarget.valueAsNumber;
          if (Number.isFinite(given)) onSet(Math.min(Math.max(given, min), max));
          event.currentTarget.value = String(value);
        }}
      />
      {label}
    </label>
  );
}

const added = signal<number | null>(null);

/** The prompt of the last column, with the tokens that every request pays for it. */
function SystemPrompt() {
  const written = promptText.value;
  useEffect(() => {
    const timer = setTimeout(() => void countTokens(written), 400);
    return () => clearTimeout(timer);
  }, [written, info.value]);
  return (
    <div class="row">
      <label for="system" class="small">System prompt</label>
      <input
        id="system"
        class="grow"
        value={systemPrompt.value || written}
        aria-describedby="system-tokens"
        onChange={(event) => (systemPrompt.value = event.currentTarget.value.trim())}
      />
      <span id="system-tokens" class="small soft number">{added.value === null ? "" : added.value < 0 ? `${-added.value} tokens less than the template's own prompt` : `+${added.value} tokens in every request`}</span>
    </div>
  );
}

async function countTokens(system: string): Promise<void> {
  const model = info.value?.model.served_as;
  if (!model) return;
  const count = async (with_: object) => {
    const body = { model, messages: [{ role: "user" as const, content: "Hello" }], ...with_ };
    return unwrap(await api.POST("/v1/messages/count_tokens", { body: body as never })).input_tokens;
  };
  added.value = await Promise.all([count({ system }), count({})]).then(([more, less]) => more - less, () => null);
}
