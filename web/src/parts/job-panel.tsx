// A training or a distillation while it runs and once it has ended.
import { useEffect, useState } from "preact/hooks";
import type { Job } from "../api";
import { duration } from "../charts/scale";
import { dismiss, findingsOf, halt, hasEnded, nameOf, reread, resume } from "../state/jobs";
import { Made } from "./made";
import { Problem } from "./notice";

const WORDS: Readonly<Record<Job["status"], string>> = {
  queued: "waits for its turn",
  running: "is being made",
  stopped: "was stopped; what was found is kept",
  done: "is ready",
  failed: "has failed",
};

export function JobPanel({ job }: { readonly job: Job }) {
  const [error, setError] = useState<unknown>(null);
  useEffect(() => {
    if (hasEnded(job) && job.result === null) void reread(job.id).catch(() => undefined); // lists come without results
  }, [job.id, job.status]);
  const act = (work: Promise<unknown>) => {
    setError(null);
    work.catch(setError);
  };
  return (
    <article class="card job stack" aria-label={`${nameOf(job)} ${WORDS[job.status]}`}>
      <div class="row">
        <h2 class="grow">{nameOf(job)} <span class="soft">{WORDS[job.status]}</span></h2>
        {!hasEnded(job) && <TimeLeft job={job} />}
        {!hasEnded(job) && <button type="button" onClick={() => act(halt(job.id))}>Stop: what was found is kept</button>}
        {(job.status === "stopped" || job.status === "failed") && (
          <>
            <button type="button" class="go" onClick={() => act(resume(job.id))}>{job.status === "failed" ? "Try again" : "Go on"}</button>
            <button type="button" onClick={() => dismiss(job.id)}>Dismiss</button>
          </>
        )}
      </div>
      {error !== null && <Problem error={error} />}
      {job.error && <Problem error={job.error} />}
      {job.status === "done" ? (
        <Made job={job} />
      ) : (
        <div class="columns">
          <Phases job={job} />
          <Findings job={job} />
        </div>
      )}
      {job.status === "done" && (
        <details>
          <summary>How it was made</summary>
          <div class="columns">
            <Phases job={job} />
            <Findings job={job} />
          </div>
        </details>
      )}
    </article>
  );
}

/** The time left, counted down between two words of the server. It is an estimate, and is said to be one. */
function TimeLeft({ job }: { readonly job: Job }) {
  const [passed, setPassed] = useState(0);
  useEffect(() => {
    const since = performance.now();
    setPassed(0);
    const timer = setInterval(() => setPassed((performance.now() - since) / 1000), 1000);
    return () => clearInterval(timer);
  }, [job.seconds_left]);
  if (job.seconds_left === null || job.seconds_left === undefined) return null;
  const left = Math.max(job.seconds_left - (job.status === "queued" ? 0 : passed), 0);
  return <span class="soft">{job.status === "queued" ? `then about ${duration(left)}` : `about ${duration(left)} left`}</span>;
}

function Phases({ job }: { readonly job: Job }) {
  const done = new Map<string, number>();
  for (const { phase, seconds } of job.phases) done.set(phase, Math.max(seconds, done.get(phase) ?? 0));
  const now = hasEnded(job) ? null : job.progress;
  if (now) done.delete(now.phase);
  const expected = job.expected ?? {};
  const later = job.status === "done" ? [] : Object.keys(expected).filter((phase) => !done.has(phase) && phase !== now?.phase);
  return (
    <ol class="phases" aria-label="Phases">
      {[...done].map(([phase, seconds]) => (
        <li key={phase}>
          <span aria-label="done">✓</span>
          <span>{phase}</span>
          <span class="soft number">{seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s</span>
        </li>
      ))}
      {now && job.status === "running" && (
        <li key={now.phase} aria-current="step">
          <span aria-label="now">▶</span>
          <strong>{now.phase}</strong>
          <span class="soft number">{now.total > 1 ? `${now.done} of ${now.total}` : ""}{now.status && ` · ${now.status}`}</span>
          {now.total > 1 ? <progress aria-label={now.phase} max={now.total} value={now.done} /> : <progress aria-label={now.phase} />}
          {now.note && <span class="soft small">{now.note}</span>}
        </li>
      )}
      {later.map((phase) => (
        <li key={phase} class="later">
          <span aria-label="later">·</span>
          <span>{phase}</span>
        </li>
      ))}
    </ol>
  );
}

function Findings({ job }: { readonly job: Job }) {
  const agreement = findingsOf(job, "agreement").at(-1);
  const answers = findingsOf(job, "answers");
  const layers = findingsOf(job, "layers").at(-1);
  const unlike = [...new Map(answers.map((each) => [each.question, each])).values()].slice(0, 2);
  if (!agreement && !unlike.length && !layers) return null;
  return (
    <div class="stack" aria-label="Found so far" role="group">
      {agreement && (
        <p>
          {agreement.pairs} pairs agree with cosine {agreement.cosine.toFixed(2)}; along their direction{" "}
          {Math.round(100 * agreement.separation)} % lie the right way round.
        </p>
      )}
      {unlike.map((each) => (
        <div key={each.question} class="stack tight">
          <p class="small">Asked to be either, the model answers “{each.question}” with</p>
          <div class="both">
            <blockquote class="plus">+ {each.positive}</blockquote>
            <blockquote class="minus">− {each.negative}</blockquote>
          </div>
        </div>
      ))}
      {layers && <Layers shares={layers.shares} tried={layers.tried} />}
    </div>
  );
}

function Layers({ shares, tried }: { readonly shares: Readonly<Record<string, number>>; readonly tried: number }) {
  const layers = Object.entries(shares).map(([layer, share]) => [Number(layer), share] as const).sort(([a], [b]) => a - b);
  const most = layers.reduce((best, each) => (each[1] > best[1] ? each : best), layers[0] ?? [0, 0]);
  const words = `It steers layers ${layers[0]?.[0]} to ${layers.at(-1)?.[0]}, layer ${most[0]} the most${tried ? `; ${tried} choices of layers were compared` : ""}.`;
  return (
    <div class="stack tight">
      <p>{words}</p>
      <div class="layers" role="img" aria-label={`Share of each layer: ${layers.map(([layer, share]) => `${layer}: ${Math.round(100 * share)} %`).join(", ")}`}>
        {layers.map(([layer, share]) => <span key={layer} style={{ height: `${Math.max(100 * share, 2)}%` }} title={`layer ${layer}: ${Math.round(100 * share)} %`} />)}
      </div>
    </div>
  );
}
