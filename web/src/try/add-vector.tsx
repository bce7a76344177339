// The dialog that adds a behaviour's dial.
import { signal, useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { api, unwrap, type Vector } from "../api";
import { Dialog } from "../parts/dialog";
import { Problem } from "../parts/notice";
import { glyph, rank } from "../parts/verdict";
import { add, dials, safeOf, signed } from "../state/dials";
import { trainBehaviour } from "../state/jobs";
import { info, unusable, vectorOf, vectors } from "../state/server";

export const addOpen = signal(false);


interface Untrained {
  readonly name: string;
  readonly positive: string;
  readonly negative: string;
}

const wanted = signal("");
const untrained = signal<readonly Untrained[]>([]);

export function AddVector() {
  if (!addOpen.value) return null;
  return <Chooser />;
}

function Chooser() {
  const close = () => (addOpen.value = false);
  useEffect(() => {
    wanted.value = "";
    api.GET("/v1/behaviours").then(
      (answer) => (untrained.value = unwrap(answer).data.filter((each) => !each.trained)),
      () => undefined, // the banner says that the server does not answer
    );
  }, []);
  const error = useSignal<unknown>(null);
  const train = (name: string) => {
    trainBehaviour(name).then(close, (problem: unknown) => (error.value = problem));
  };
  const words = wanted.value.toLowerCase().split(/\s+/).filter(Boolean);
  const fits = (...texts: (string | undefined)[]) => words.every((word) => texts.join(" ").toLowerCase().includes(word));
  const list = vectors.value
    .filter((each) => fits(each.name, each.poles?.["+"], each.poles?.["-"], each.verdict ?? ""))
    .toSorted((a, b) => rank(a.verdict) - rank(b.verdict) || (b.times_prompt ?? 0) - (a.times_prompt ?? 0) || a.name.localeCompare(b.name));
  const others = untrained.value.filter((each) => !vectorOf.value.has(each.name) && fits(each.name, each.positive, each.negative));
  const broken = Object.entries(unusable.value).filter(([name]) => fits(name));
  const model = info.value?.model.name ?? "this model";
  return (
    <Dialog title="Add a behaviour" onClose={close}>
      <div class="stack">
        <div class="field">
          <label for="find-vector">Search</label>
          <input id="find-vector" type="search" ref={focusFirst} value={wanted.value} onInput={(event) => (wanted.value = event.currentTarget.value)} />
        </div>
        <p class="hint" role="status">{list.length} of {vectors.value.length} behaviours of {model}, best first</p>
        <ul class="choices">
          {list.map((vector) => (
            <li key={vector.name}>
              <button
                type="button"
                disabled={dials.value.some((dial) => dial.name === vector.name && dial.text === undefined)}
                onClick={() => {
                  add(vector.name);
                  close();
                }}
              >
                <span><b>{vector.name}</b> <span class="soft">{vector.poles ? `− ${vector.poles["-"]} … ${vector.poles["+"]} +` : "a vector of yours"}</span></span>
                <span class="small soft">{facts(vector)}</span>
              </button>
            </li>
          ))}
        </ul>
        {others.length > 0 && (
          <section class="stack tight">
            <h3>Not trained for this model</h3>
            <p class="hint">Training takes some minutes, beside the answers.</p>
            {error.value !== null && <Problem error={error.value} />}
            <ul class="plain-list">
              {others.map(({ name }) => (
                <li key={name} class="row">{name} <button type="button" class="small" onClick={() => train(name)}>Train it<span class="vh">: {name}</span></button></li>
              ))}
            </ul>
          </section>
        )}
        {broken.length > 0 && (
          <section class="stack tight">
            <h3>Files that cannot be used</h3>
            <ul class="plain-list small">
              {broken.map(([name, why]) => (
                <li key={name}><b>{name}</b>: {why} <a href="#/make" onClick={close}>Train it for this model</a></li>
              ))}
            </ul>
          </section>
        )}
        {!list.length && !others.length && <p>Nothing is called that. <a href="#/make" onClick={close}>Make it</a></p>}
      </div>
    </Dialog>
  );
}

/** Let the dialog open with the focus here. Once it is in the page, the attribute says nothing to the page itself. */
function focusFirst(input: HTMLInputElement | null): void {
  input?.setAttribute("autofocus", "");
}

function facts(vector: Vector): string {
  const safe = safeOf(vector);
  return [
    `${glyph(vector.verdict)} ${vector.verdict ?? "not evaluated"}`,
    vector.times_prompt !== null && `${vector.times_prompt.toFixed(1)} × a prompt`,
    safe ? `safe from ${signed(safe.low)} to ${signed(safe.high)}` : "safe range not measured",
  ].filter(Boolean).join(" · ");
}
