import { draft, form } from "../state/make";

/** Some of the pairs as the model will read them, with what differs marked. */
export function PairsPreview() {
  if (form.value.source === "prompt") return null;
  const preview = draft.value?.preview;
  return (
    <section class="stack tight" aria-label="What the model will read">
      <h2>What the model will read</h2>
      {!preview ? (
        <p class="soft">Pairs of texts that differ in the poles alone appear here as you write.</p>
      ) : (
        <>
          <p class="soft">{preview.pairs.length} of {preview.total} pairs. The model's hidden states at the end of each text are compared.</p>
          <ol class="preview">
            {preview.pairs.map((pair, n) => {
              const [plus, minus] = parted(pair.positive, pair.negative);
              return (
                <li key={n} class="stack tight">
                  <Text sign="+" parts={plus} />
                  <Text sign="−" parts={minus} />
                </li>
              );
            })}
          </ol>
        </>
      )}
    </section>
  );
}

type Parts = readonly [string, string, string];

function Text({ sign, parts: [before, own, after] }: { readonly sign: string; readonly parts: Parts }) {
  return (
    <pre class={sign === "+" ? "" : "against"} tabIndex={0} role="group" aria-label={sign === "+" ? "Towards" : "Against"}>
      {sign} {before}<mark>{own}</mark>{after}
    </pre>
  );
}

/** Return two texts in three parts each: what they begin with alike, what differs, what they end with alike. */
function parted(a: string, b: string): [Parts, Parts] {
  const [as, bs] = [a.split(/\b/), b.split(/\b/)];
  let [start, end] = [0, 0];
  while (start < Math.min(as.length, bs.length) && as[start] === bs[start]) start++;
  while (end < Math.min(as.length, bs.length) - start && as.at(-1 - end) === bs.at(-1 - end)) end++;
  const cut = (words: readonly string[]): Parts => [
    words.slice(0, start).join(""),
    words.slice(start, words.length - end).join(""),
    words.slice(words.length - end).join(""),
  ];
  return [cut(as), cut(bs)];
}
