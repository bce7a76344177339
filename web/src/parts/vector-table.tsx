import { computed, signal } from "@preact/signals";
import { useEffect, useState } from "preact/hooks";
import { api, type Behaviour, unwrap, type Vector } from "../api";
import { duration } from "../charts/scale";
import { add, signed } from "../state/dials";
import { trainBehaviour } from "../state/jobs";
import { deleteVector } from "../state/library";
import { expected } from "../state/make";
import { info, unusable, vectors } from "../state/server";
import { Problem } from "./notice";
import { glyph, rank } from "./verdict";

const behaviours = signal<readonly Behaviour[]>([]);
const query = signal("");

/** A line of the table: a vector, a behaviour without one, or a file that is no vector for this model. */
interface Line {
  readonly name: string;
  readonly poles: string;
  readonly about: string;
  readonly vector: Vector | null;
  readonly problem: string | null;
}

const lines = computed<readonly Line[]>(() => {
  const described = new Map(behaviours.value.map((each) => [each.name, each]));
  const own = vectors.value.map((vector) => ({
    name: vector.name,
    poles: vector.poles ? `${vector.poles["+"]} / ${vector.poles["-"]}` : "",
    about: described.get(vector.behaviour)?.description ?? "",
    vector,
    problem: null,
  }));
  const taken = new Set(own.map((line) => line.name));
  const untrained = behaviours.value
    .filter((each) => !each.trained && !taken.has(each.name))
    .map((each) => ({ name: each.name, poles: `${each.positive} / ${each.negative}`, about: each.description, vector: null, problem: unusable.value[each.name] ?? null }));
  for (const line of untrained) taken.add(line.name);
  const broken = Object.entries(unusable.value)
    .filter(([name]) => !taken.has(name))
    .map(([name, problem]) => ({ name, poles: "", about: "", vector: null, problem }));
  return [...own, ...untrained, ...broken];
});

const EFFORTS = ["", "quick", "default", "thorough"];

/** Columns, with what they are sorted by: numbers where there are some, so that unmeasured ones come last. */
const COLUMNS: readonly { readonly id: string; readonly title: string; readonly number?: boolean; readonly extra?: boolean; readonly by: (line: Line) => string | number }[] = [
  { id: "name", title: "Name", by: (line) => line.name.toLowerCase() },
  { id: "poles", title: "Poles (+ / −)", extra: true, by: (line) => line.poles },
  { id: "verdict", title: "Verdict", by: (line) => (line.vector ? -rank(line.vector.verdict) : -9) },
  { id: "times", title: "Times the prompt", number: true, by: (line) => line.vector?.times_prompt ?? -1 },
  { id: "safe", title: "Safe range", number: true, by: (line) => (line.vector?.safe ? line.vector.safe.high - line.vector.safe.low : -1) },
  { id: "strength", title: "Default strength", number: true, extra: true, by: (line) => line.vector?.default_strength ?? -9 },
  { id: "from", title: "From", extra: true, by: (line) => (line.vector ? `${line.vector.own ? 0 : 1}${EFFORTS.indexOf(line.vector.effort)}` : "2") },
];

const sorting = signal<{ readonly id: string; readonly down: boolean }>({ id: "name", down: false });

const shown = computed(() => {
  const words = query.value.toLowerCase().split(/\s+/).filter(Boolean);
  const found = lines.value.filter((line) => words.every((word) => `${line.name} ${line.poles} ${line.about} ${line.vector?.verdict ?? ""}`.toLowerCase().includes(word)));
  const { by } = COLUMNS.find((column) => column.id === sorting.value.id)!;
  const sign = sorting.value.down ? -1 : 1;
  return [...found].sort((a, b) => sign * compare(by(a), by(b)) || compare(a.name, b.name));
});

function compare(a: string | number, b: string | number): number {
  return typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
}

export function VectorTable() {
  const [error, setError] = useState<unknown>(null);
  useEffect(() => {
    api.GET("/v1/behaviours").then((answer) => (behaviours.value = unwrap(answer).data), setError);
  }, [vectors.value]);
  return (
    <section class="stack" aria-label="Vectors and behaviours">
      <div class="row">
        <label class="row grow">
          <span class="label">Search</span>
          <input type="search" class="grow" value={query.value} onInput={(event) => (query.value = event.currentTarget.value)} />
        </label>
        <span class="soft" role="status">{shown.value.length} of {lines.value.length}</span>
      </div>
      {error !== null && <Problem error={error} />}
      <div class="scroll" tabIndex={0} role="region" aria-label="Table of vectors and behaviours">
        <table class="data library">
          <caption class="vh">Vectors and behaviours</caption>
          <thead>
            <tr>
              {COLUMNS.map((column) => <Head key={column.id} {...column} />)}
              <th scope="col"><span class="vh">What to do</span></th>
            </tr>
          </thead>
          <tbody>
            {shown.value.map((line) => <Row key={line.name} line={line} onError={setError} />)}
          </tbody>
        </table>
      </div>
      {shown.value.length === 0 && <p>Nothing is called or described so.</p>}
      <p class="hint">
        Times the prompt: how much more a vector moves what the model writes at its default strength than system prompts for its two
        poles do. Safe range: strengths at which the text holds together.
      </p>
    </section>
  );
}

function Head({ id, title, number, extra }: { readonly id: string; readonly title: string; readonly number?: boolean; readonly extra?: boolean }) {
  const { id: by, down } = sorting.value;
  const sorted = by === id ? (down ? "descending" : "ascending") : undefined;
  // Numbers are wanted the largest first, words from A to Z.
  const next = by === id ? !down : Boolean(number) || id === "verdict";
  return (
    <th scope="col" class={`${number ? "number" : ""} ${extra ? "extra" : ""}`} aria-sort={sorted}>
      <button type="button" onClick={() => (sorting.value = { id, down: next })}>
        {title} <span aria-hidden="true">{sorted ? (down ? "▼" : "▲") : ""}</span>
      </button>
    </th>
  );
}

function Row({ line, onError }: { readonly line: Line; readonly onError: (error: unknown) => void }) {
  const { name, vector, problem } = line;
  const seconds = expected("train default");
  const train = () => void trainBehaviour(name).catch(onError);
  return (
    <tr>
      <th scope="row">{vector ? <a href={`#/library/${encodeURIComponent(name)}`}>{name}</a> : name}</th>
      <td class="pole-names extra" title={line.about}>{line.poles}</td>
      {vector ? (
        <>
          <td class="verdict">{vector.verdict ? `${glyph(vector.verdict)} ${vector.verdict}` : <span class="soft">not evaluated</span>}</td>
          <td class="number">{vector.times_prompt === null ? "–" : `${vector.times_prompt.toFixed(1)} ×`}</td>
          <td class="number range">{vector.safe ? `${signed(vector.safe.low)} to ${signed(vector.safe.high)}` : "–"}</td>
          <td class="number extra">{vector.default_strength === null ? "–" : signed(vector.default_strength)}</td>
          <td class="extra">{vector.own ? "own" : "shipped"}{vector.effort && `, ${vector.effort}`}</td>
        </>
      ) : (
        <td colSpan={5} class={problem ? "warn" : "soft"}>{problem ? `▲ Not usable: ${problem}` : `No vector for ${info.value?.model.served_as ?? "this model"} yet`}</td>
      )}
      <td class="do">
        {vector && <button type="button" onClick={() => { add(name); location.hash = "try"; }}>Try<span class="vh"> {name}</span></button>}
        {vector?.own && <button type="button" onClick={() => deleteVector(name).catch(onError)}>Delete<span class="vh"> {name}</span></button>}
        {!vector && behaviours.value.some((each) => each.name === name) && !problem && info.value?.capabilities.jobs && (
          <button type="button" onClick={train}>Train<span class="vh"> {name}</span>{seconds !== null && ` (about ${duration(seconds)})`}</button>
        )}
        {problem && <button type="button" onClick={() => deleteVector(name).catch(onError)}>Delete<span class="vh"> {name}</span></button>}
      </td>
    </tr>
  );
}
