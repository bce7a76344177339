// What was made: its verdict in words, its safe range, samples, and what to do with it.
import { useEffect, useState } from "preact/hooks";
import type { Job, VectorDetails } from "../api";
import { add, signed } from "../state/dials";
import { begin, dismiss, findingsOf, jobs } from "../state/jobs";
import { deleteVector, detailsOf } from "../state/library";
import { openCard } from "../state/open";
import { vectorOf } from "../state/server";
import { Problem } from "./notice";
import { verdictOf } from "./verdict";

const QUESTION = "How was your day?";

export function Made({ job }: { readonly job: Job }) {
  const [details, setDetails] = useState<VectorDetails | null>(null);
  const [error, setError] = useState<unknown>(null);
  const name = job.result && "vector" in job.result && !("strengths" in job.result) ? job.result.vector : null;
  const there = name !== null && vectorOf.value.has(name);
  useEffect(() => {
    if (name !== null && there) detailsOf(name).then(setDetails, setError);
  }, [name, there]);
  if (name === null) return null;
  if (!there) return <Gone job={job} name={name} />;
  const { word, sentences } = details ? verdictOf(details) : { word: "", sentences: [] };
  return (
    <div class="stack">
      {details && (
        <div class="stack tight">
          <p><strong>{word}</strong></p>
          {sentences.map((each) => <p key={each}>{each}</p>)}
        </div>
      )}
      {details && <Samples job={job} details={details} />}
      {error !== null && <Problem error={error} />}
      <div class="row">
        <button type="button" class="go" onClick={() => { add(name); location.hash = "try"; }}>Try it</button>
        <button type="button" onClick={() => dismiss(job.id)}>Keep</button>
        <button type="button" onClick={() => openCard(name)}>Card</button>
        <button type="button" class="danger" onClick={() => deleteVector(name).then(() => dismiss(job.id), setError)}>Discard</button>
      </div>
    </div>
  );
}

function Gone({ job, name }: { readonly job: Job; readonly name: string }) {
  return (
    <p class="row">
      <span>The vector {name} is no longer there.</span>
      <button type="button" onClick={() => dismiss(job.id)}>Dismiss</button>
    </p>
  );
}

/** One question at both default strengths and without steering, answered once for each vector. */
function Samples({ job, details }: { readonly job: Job; readonly details: VectorDetails }) {
  const [error, setError] = useState<unknown>(null);
  const sweep = jobs.value.find((each) => each.fields.kind === "sweep" && each.fields.vector === details.name && each.created >= (job.ended ?? 0));
  useEffect(() => {
    if (sweep) return;
    begin({ kind: "sweep", vector: details.name, prompt: QUESTION, strengths: strengthsOf(details), max_tokens: 40, kl: true }).catch(setError);
  }, [details.name]);
  if (error !== null) return <Problem error={error} />;
  const rows = sweep ? findingsOf(sweep, "strength") : [];
  if (!rows.length) return <p class="soft" role="status">Answering “{QUESTION}” both ways…</p>;
  return (
    <section class="stack tight" aria-label="Samples">
      <p class="small">“{QUESTION}”</p>
      <div class="samples">
        {rows.map((row) => (
          <div key={row.strength} class="stack tight">
            <p class="small"><strong>{row.strength ? signed(row.strength) : "as it is"}</strong> {!row.usable && <span class="warn">▲ {row.loops ? "repeats itself" : "no answer"}</span>}</p>
            <blockquote class={row.strength > 0 ? "plus" : row.strength < 0 ? "minus" : ""}>{row.text.trim() || "(no answer)"}</blockquote>
          </div>
        ))}
      </div>
    </section>
  );
}

function strengthsOf({ default_strength, safe, header }: VectorDetails): number[] {
  if (header.distillation) return [0, default_strength ?? 1];
  const low = safe ? Math.max(-0.5, safe.low) : -0.5;
  const high = safe ? Math.min(0.5, safe.high) : 0.5;
  return [...new Set([low || -0.25, 0, high || 0.25])];
}
