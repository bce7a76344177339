// What the dials spend together, and their text form.
import { useSignal } from "@preact/signals";
import { sentence } from "../parts/notice";
import { check, take, text } from "../state/dials";
import type { Check } from "../api";
import { LEVELS, shareWords, strengthWord } from "../state/words";

const MOST = 1.5; // nats per token at the end of the meter
const WORDS = [...LEVELS.map(({ upto }) => upto), MOST].map((upto, n, ends) => {
  const middle = ((ends[n - 1] ?? 0) + upto) / 2;
  return { middle, word: strengthWord(middle) };
});

export function Budget() {
  const now = check.value;
  if (!now?.ok) return null;
  const terms = now.terms;
  const known = terms.filter((term) => term.kl !== null);
  const together = now.kl;
  const alone = known.reduce((sum, term) => sum + term.kl!, 0);
  const scale = together === null || together === undefined || alone === 0 ? 1 : together / alone;
  const says = together == null ? "not known, as a term was never calibrated" : `${together.toFixed(2)} nat a token, ${strengthWord(together)}`;
  const at = (kl: number) => `${Math.min(kl / MOST, 1) * 100}%`;
  return (
    <section class="budget stack tight" aria-labelledby="budget">
      <h2 id="budget">Budget: {says}</h2>
      <div class="meter" role="img" aria-label={`${says}; from 1.1 nat on, text breaks`}>
        {known.map((term, n) => (
          <span key={term.text} class={`part-${n % 3}`} style={{ width: at(term.kl! * scale) }} />
        ))}
        {LEVELS.map(({ upto }) => <i key={upto} style={{ left: at(upto) }} />)}
      </div>
      <div class="ticks tiny soft" aria-hidden="true">
        {LEVELS.map(({ upto }) => <span key={upto} style={{ left: at(upto) }}>{upto}</span>)}
        {WORDS.map(({ word, middle }) => <b key={word} style={{ left: at(middle) }}>{word}</b>)}
      </div>
      {terms.length > 1 && <p class="small">{terms.map((term) => `${term.vector} ${term.kl === null ? "?" : term.kl.toFixed(2)}`).join(" + ")}{together != null && ` = ${together.toFixed(2)} together`}</p>}
      {pairs(now).map((words) => <p key={words} class="small soft">{words}</p>)}
      {now.warnings.map((warning) => <p key={warning} class="warn small">▲ {sentence(warning)}</p>)}
    </section>
  );
}

/** Return for each two terms in words how much they share. */
function pairs(now: Check): string[] {
  const { cosines, terms } = now;
  if (!cosines) return [];
  return terms.flatMap((term, a) =>
    terms.slice(a + 1).map((other, more) => {
      const cosine = cosines[a]?.[a + 1 + more] ?? 0;
      const names = terms.length > 2 ? `${term.vector} and ${other.vector}` : "They";
      return `${names} ${shareWords(cosine)} (cos ${cosine.toFixed(2).replace("-", "−")})`;
    }),
  );
}

/** The mix as one line of text, which only the server reads. */
export function TextForm() {
  const typed = useSignal<string | null>(null);
  const mistake = useSignal<Check["error"] | null>(null);
  const put = async (input: HTMLInputElement) => {
    const written = typed.value?.trim();
    if (written === undefined || written === text.value) {
      typed.value = mistake.value = null;
      return;
    }
    const answer = await take(written || "none").catch(() => null);
    if (!answer) return;
    mistake.value = answer.ok ? null : answer.error;
    if (answer.ok) typed.value = null;
    const column = answer.error?.column;
    if (column) input.setSelectionRange(column - 1, column);
  };
  const { column, what, fix } = mistake.value ?? {};
  return (
    <form
      class="field"
      onSubmit={(event) => {
        event.preventDefault();
        void put(event.currentTarget.elements.namedItem("steering") as HTMLInputElement);
      }}
    >
      <label for="steering">As text</label>
      <span class="row nowrap">
        <input
          id="steering"
          name="steering"
          class="mono grow"
          spellcheck={false}
          autocomplete="off"
          value={typed.value ?? text.value}
          aria-invalid={mistake.value ? "true" : undefined}
          aria-describedby={mistake.value ? "steering-mistake" : undefined}
          onInput={(event) => (typed.value = event.currentTarget.value)}
          onBlur={(event) => typed.value !== null && void put(event.currentTarget)}
        />
        {typed.value !== null && <button>Set</button>}
      </span>
      {mistake.value && (
        <div id="steering-mistake" class="small" role="alert">
          {column && <pre class="caret" aria-hidden="true">{typed.value}{"\n"}{" ".repeat(column - 1)}^</pre>}
          <p class="warn">▲ {sentence(what ?? "")}</p>
          {fix && <p>{sentence(fix.split("\n")[0]!)}</p>}
        </div>
      )}
    </form>
  );
}
