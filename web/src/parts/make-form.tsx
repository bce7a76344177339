import { useState } from "preact/hooks";
import { duration } from "../charts/scale";
import { announce } from "../state/announce";
import { asToml } from "../state/behaviour-file";
import { begin } from "../state/jobs";
import { draft, draftProblem, EFFORTS, type Effort, expected, file, form, name, readyToml, set, type Source } from "../state/make";
import { info, vectorOf } from "../state/server";
import { Hints } from "./hints";
import { Problem } from "./notice";

const SOURCES: Readonly<Record<Source, string>> = {
  poles: "Two poles, in words",
  file: "My own pairs, from a file",
  prompt: "A system prompt to compile",
};
const ABOUT: Readonly<Record<Effort, string>> = {
  quick: "Quick: direction and unit of strength, no safe range",
  default: "Default: refined, with a safe range",
  thorough: "Thorough: layers compared, more questions",
};
const EXAMPLES = { positive: "a salty pirate captain", negative: "a careful lawyer" };

export function MakeForm() {
  const [error, setError] = useState<unknown>(null);
  const [beginning, setBeginning] = useState(false);
  const { source, effort, prompt } = form.value;
  const kind = source === "prompt" ? "distill" : `train ${effort}`;
  const seconds = expected(kind);
  const taken = vectorOf.value.get(name.value)?.own ?? false;
  const able = info.value?.capabilities;
  const blocked = (source === "prompt" && !able?.gradients) || able?.jobs === false;
  const ready = name.value !== "" && !blocked && (source === "prompt" ? prompt.trim() !== "" : draft.value !== null && draft.value.ok);

  const start = async () => {
    setError(null);
    setBeginning(true);
    try {
      if (source === "prompt") await begin({ kind: "distill", name: name.value, system_prompt: prompt, seed: 0, overwrite: false });
      else await begin({ kind: "train", name: name.value, toml: await readyToml(), effort, seed: 0, overwrite: false });
      announce(`Making ${name.value} has begun`);
      scrollTo({ top: 0 });
    } catch (problem) {
      setError(problem);
    } finally {
      setBeginning(false);
    }
  };

  return (
    <form class="stack" aria-label="A new vector" onSubmit={(event) => { event.preventDefault(); void start(); }}>
      <fieldset class="stack tight">
        <legend>Where from</legend>
        <div class="row">
          {(Object.keys(SOURCES) as Source[]).map((each) => (
            <label key={each} class="check">
              <input type="radio" name="source" checked={source === each} onChange={() => set({ source: each })} />
              {SOURCES[each]}
            </label>
          ))}
        </div>
      </fieldset>
      {source === "poles" && <Poles />}
      {source === "file" && <FromFile />}
      {source === "prompt" && <Prompt blocked={able?.gradients === false} />}
      <label class="field">
        <span class="label">Name</span>
        <input
          value={form.value.name}
          placeholder={name.value}
          maxLength={64}
          pattern="[A-Za-z0-9][A-Za-z0-9._\-]*"
          title="Letters, digits, '.', '_' and '-'"
          autocomplete="off"
          onInput={(event) => set({ name: event.currentTarget.value })}
        />
        {taken && <span class="warn">▲ You have a vector {name.value}. Choose another name.</span>}
      </label>
      {source !== "prompt" && (
        <fieldset class="stack tight">
          <legend>Effort</legend>
          {EFFORTS.map((each) => (
            <label key={each} class="check">
              <input type="radio" name="effort" checked={effort === each} onChange={() => set({ effort: each })} />
              <span>{ABOUT[each]} <Time seconds={expected(`train ${each}`)} /></span>
            </label>
          ))}
        </fieldset>
      )}
      {error !== null && <Problem error={error} />}
      {draftProblem.value && source !== "prompt" && <Problem error={draftProblem.value} />}
      <p>
        <button class="go" disabled={!ready || taken || beginning}>
          {source === "prompt" ? "Compile" : "Train"}
          {seconds !== null && `: about ${duration(seconds)} on this machine`}
        </button>
      </p>
    </form>
  );
}

function Time({ seconds }: { readonly seconds: number | null }) {
  return seconds === null ? null : <span class="soft">(about {duration(seconds)})</span>;
}

function Poles() {
  return (
    <>
      <Pole side="positive" sign="+" title="Towards" />
      <Pole side="negative" sign="−" title="Against" />
      <p class="hint">Several ways of saying a pole make a better vector. Give both poles as many, line by line alike but for the point.</p>
      <Hints />
    </>
  );
}

function Pole({ side, sign, title }: { readonly side: "positive" | "negative"; readonly sign: string; readonly title: string }) {
  const ways = form.value[side];
  const change = (next: readonly string[]) => set({ [side]: next });
  return (
    <fieldset class={`pole stack tight ${side === "negative" ? "against" : ""}`}>
      <legend>{title} ({sign})</legend>
      {ways.map((way, n) => (
        <div key={n} class="way">
          <label for={`${side}-${n}`}>You are<span class="vh">, {title.toLowerCase()}, way {n + 1}</span></label>
          <input
            id={`${side}-${n}`}
            value={way}
            placeholder={n === 0 ? EXAMPLES[side] : "another way to say it"}
            maxLength={1000}
            autocomplete="off"
            onInput={(event) => change(ways.map((old, at) => (at === n ? event.currentTarget.value : old)))}
          />
          {ways.length > 1 && (
            <button type="button" class="quiet icon" aria-label={`Remove way ${n + 1}`} onClick={() => change(ways.filter((_, at) => at !== n))}>✕</button>
          )}
        </div>
      ))}
      <p>
        <button
          type="button"
          class="link"
          disabled={ways.length >= 16}
          onClick={() => {
            change([...ways, ""]);
            setTimeout(() => document.getElementById(`${side}-${ways.length}`)?.focus());
          }}
        >
          Add another way to say it
        </button>
      </p>
    </fieldset>
  );
}

function FromFile() {
  const [problem, setProblem] = useState<unknown>(null);
  const take = async (chosen: File | undefined) => {
    setProblem(null);
    if (!chosen) return;
    try {
      file.value = { name: chosen.name, toml: asToml(chosen.name, await chosen.text(), form.value.name) };
    } catch (error) {
      file.value = null;
      setProblem(error);
    }
  };
  return (
    <>
      <div class="field">
        <label for="behaviour-file">Behaviour or pairs</label>
        <input id="behaviour-file" type="file" accept=".toml,.json,.jsonl" onChange={(event) => void take(event.currentTarget.files?.[0])} />
        <p class="hint">
          A behaviour as .toml or .json; or pairs as .jsonl or .json, each an object with "positive" and "negative". It is read in
          the browser and sent to your own server alone.
        </p>
      </div>
      {file.value && <p>{file.value.name} is read{draft.value?.name ? <> as the behaviour <strong>{draft.value.name}</strong></> : null}.</p>}
      {problem !== null && <Problem error={problem} />}
      <Hints />
    </>
  );
}

function Prompt({ blocked }: { readonly blocked: boolean }) {
  return (
    <div class="stack tight">
      <label class="field">
        <span class="label">System prompt</span>
        <textarea
          rows={5}
          value={form.value.prompt}
          placeholder="Answer in one short sentence."
          onInput={(event) => set({ prompt: event.currentTarget.value })}
        />
      </label>
      <p class="hint">The vector then does what the prompt asks for, at strength 1, without its tokens in every request.</p>
      {blocked && <p class="warn">▲ This model has no gradients, so prompts cannot be compiled. Use two poles instead.</p>}
    </div>
  );
}
