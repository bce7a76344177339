// The card of one vector: what was measured, in words, as charts and as numbers.
import { useEffect, useState } from "preact/hooks";
import { ApiError, type VectorDetails } from "../api";
import { saveFile } from "../api";
import { add, signed } from "../state/dials";
import { begin, hasEnded, jobs, nameOf } from "../state/jobs";
import { deleteVector, detailsOf } from "../state/library";
import { openBreaks } from "../state/open";
import { info, vectorOf } from "../state/server";
import { CardCharts } from "./card-charts";
import { JobPanel } from "./job-panel";
import { Problem } from "./notice";
import { SafeRange } from "./safe-range";
import { Undo } from "./undo";
import { verdictOf } from "./verdict";

export function CardPage({ name }: { readonly name: string }) {
  const [details, setDetails] = useState<VectorDetails | null>(null);
  const [error, setError] = useState<unknown>(null);
  const evaluations = jobs.value.filter((job) => job.kind === "evaluate" && nameOf(job) === name);
  const ready = evaluations.filter((job) => job.status === "done").length;
  const known = vectorOf.value.has(name);
  useEffect(() => {
    detailsOf(name).then(
      (found) => {
        setDetails(found);
        setError(null);
      },
      (problem: unknown) => {
        setDetails(null);
        setError(problem);
      },
    );
  }, [name, ready, known]);
  return (
    <main id="main" tabIndex={-1} class="page stack card-page">
      <p><a href="#/library">All vectors</a></p>
      <h1>{name}</h1>
      <Undo />
      {error !== null && <Problem error={error}>{error instanceof ApiError && error.status === 404 && <a href="#/library">See what there is</a>}</Problem>}
      {!details && error === null && <p class="soft" role="status">Reading the card…</p>}
      {details && <Card details={details} onError={setError} />}
      {evaluations.filter((job) => !hasEnded(job) || job.status === "failed").slice(0, 1).map((job) => <JobPanel key={job.id} job={job} />)}
    </main>
  );
}

function Card({ details, onError }: { readonly details: VectorDetails; readonly onError: (error: unknown) => void }) {
  const { name, card, poles, safe } = details;
  const { word, sentences } = verdictOf(details);
  const reasons = (details.header.safe ?? card?.safe)?.reasons;
  return (
    <>
      <div class="row">
        <button type="button" class="go" onClick={() => { add(name); location.hash = "try"; }}>Try it</button>
        <button type="button" onClick={() => openBreaks(name)}>Find where it breaks</button>
        <button type="button" onClick={() => saveFile(`/v1/vectors/${encodeURIComponent(name)}/file`, `${name}.safetensors`).catch(onError)}>Download</button>
        {!card && info.value?.capabilities.jobs && <Evaluate details={details} onError={onError} />}
        {details.own && <button type="button" class="danger" onClick={() => deleteVector(name).then(() => (location.hash = "library"), onError)}>Delete</button>}
      </div>
      {poles && <p><span class="plus">+ {poles["+"]}</span> · <span class="minus">− {poles["-"]}</span></p>}
      <section class="stack tight" aria-label="Verdict">
        <h2>{word}</h2>
        <ul class="sentences">{sentences.map((each) => <li key={each}>{each.replaceAll(/(?<![\w±])-(?=\d)/g, "−")}</li>)}</ul>
      </section>
      {safe && <SafeRange low={safe.low} high={safe.high} reasons={reasons ?? {}} poles={poles} />}
      <CardCharts details={details} />
      {card && card.samples.length > 0 && <Samples details={details} />}
      <Made details={details} />
    </>
  );
}

function Evaluate({ details, onError }: { readonly details: VectorDetails; readonly onError: (error: unknown) => void }) {
  const { name } = details;
  const running = jobs.value.some((job) => job.kind === "evaluate" && nameOf(job) === name && !hasEnded(job));
  const training = jobs.value.find((job) => job.fields.kind === "train" && job.fields.name === name && job.fields.toml);
  const toml = training?.fields.kind === "train" ? (training.fields.toml ?? null) : null;
  const evaluate = () => {
    begin({ kind: "evaluate", vector: name, ...(toml ? { toml } : {}), seed: 0 }).catch(onError);
  };
  return <button type="button" disabled={running} onClick={evaluate}>Evaluate it: some minutes</button>;
}

function Samples({ details }: { readonly details: VectorDetails }) {
  const at = details.card?.written?.["default"]?.strengths;
  const [low, high] = [signed(at?.["-"] ?? -0.5), signed(at?.["+"] ?? 0.5)];
  return (
    <section class="stack tight" aria-label="Samples">
      <h2>Samples</h2>
      {details.card?.samples.map((sample) => (
        <div key={sample.question} class="stack tight">
          <p>“{sample.question}”</p>
          <div class="samples">
            <div><p class="small"><strong>{low}</strong></p><blockquote class="minus">{sample.minus}</blockquote></div>
            <div><p class="small"><strong>as it is</strong></p><blockquote>{sample.base}</blockquote></div>
            <div><p class="small"><strong>{high}</strong></p><blockquote class="plus">{sample.plus}</blockquote></div>
          </div>
        </div>
      ))}
    </section>
  );
}

function Made({ details }: { readonly details: VectorDetails }) {
  const { header, card } = details;
  const facts: readonly (readonly [string, string])[] = [
    ["Method", details.method],
    ["Effort", details.effort || "not recorded"],
    ["Layers", listed(details.layers)],
    ["Budget", header.calibration ? `${header.calibration.budget.toFixed(2)} nat per token at strength 1` : "not calibrated"],
    ["Pairs", header.reliability ? `${header.reliability.pairs}, cosine ${header.reliability.pairwise_cosine.toFixed(2)}` : "not recorded"],
    ["Made", details.created.replace("T", " ").replace("+00:00", " UTC") || "not recorded"],
    ["Card measured on", card ? `${card.questions} questions, layers ${listed(card.layers)}` : "–"],
  ];
  return (
    <section class="stack tight" aria-label="How it was made">
      <h2>How it was made</h2>
      <dl class="facts">
        {facts.map(([term, text]) => (
          <div key={term}>
            <dt>{term}</dt>
            <dd>{text}</dd>
          </div>
        ))}
      </dl>
    </section>
  );
}

/** Return numbers with runs as ranges. */
function listed(numbers: readonly number[]): string {
  const runs: [number, number][] = [];
  for (const each of numbers) {
    const last = runs.at(-1);
    if (last && each === last[1] + 1) last[1] = each;
    else runs.push([each, each]);
  }
  return runs.map(([from, to]) => (from === to ? from : `${from} to ${to}`)).join(", ");
}
