// Where it breaks: one prompt at seven strengths, answered together, beside what the card says.
import { signal } from "@preact/signals";
import { useEffect, useState } from "preact/hooks";
import type { Safe, Swept } from "../api";
import { figure } from "../charts/scale";
import { LineChart } from "../charts/line-chart";
import { Numbers } from "../charts/numbers";
import { announce } from "../state/announce";
import { MAX_STRENGTH, narrowed, setStrength, signed } from "../state/dials";
import { begin, findingsOf, halt, hasEnded, jobs } from "../state/jobs";
import { breaksOf } from "../state/open";
import { vectorOf } from "../state/server";
import { turns } from "../state/talk";
import { Dialog } from "./dialog";
import { Problem } from "./notice";
import "./breaks.css";

const STRENGTHS = [-1.5, -1, -0.5, 0, 0.5, 1, 1.5];
const TOKENS = 60;
const EXAMPLE = "I would like two cheeseburgers and a coke, please.";

/** The sweep that is shown, of this session. */
const sweep = signal<{ readonly id: string; readonly name: string } | null>(null);

export function Breaks() {
  const name = breaksOf.value;
  return name === null ? null : <Opened key={name} name={name} />;
}

function Opened({ name }: { readonly name: string }) {
  const [prompt, setPrompt] = useState(() => turns.value.at(-1)?.user ?? EXAMPLE);
  const [error, setError] = useState<unknown>(null);
  const safe = vectorOf.value.get(name)?.safe ?? null;
  const job = sweep.value?.name === name ? jobs.value.find((each) => each.id === sweep.value?.id) : undefined;
  const rows = job ? findingsOf(job, "strength") : [];
  const running = job !== undefined && !hasEnded(job);
  const done = job?.status === "done";

  useEffect(() => {
    if (!done) return;
    const usable = usableRange(rows);
    narrow(name, rows, safe);
    announce(`Answered at ${rows.length} strengths. ${verdict(usable)}`);
  }, [done]);

  const run = async () => {
    setError(null);
    try {
      const begun = await begin({ kind: "sweep", vector: name, prompt, strengths: STRENGTHS, max_tokens: TOKENS, kl: true });
      sweep.value = { id: begun.id, name };
    } catch (problem) {
      setError(problem);
    }
  };

  return (
    <Dialog title={`Where ${name} breaks`} wide onClose={() => (breaksOf.value = null)}>
      <div class="stack">
        <form class="stack tight" onSubmit={(event) => { event.preventDefault(); void run(); }}>
          <label class="field">
            <span class="label">Message</span>
            <textarea rows={2} value={prompt} maxLength={20_000} required onInput={(event) => setPrompt(event.currentTarget.value)} />
          </label>
          <div class="row">
            <button class="go" disabled={running || !prompt.trim()}>Answer at {STRENGTHS.length} strengths</button>
            {running && <button type="button" onClick={() => job && void halt(job.id)}>Stop</button>}
            <span class="hint">{safe ? `Card: safe from ${signed(safe.low)} to ${signed(safe.high)}` : "No safe range was measured"}</span>
          </div>
        </form>
        {error !== null && <Problem error={error} />}
        {job?.error && <Problem error={job.error} />}
        {running && <progress aria-label="Strengths answered" max={STRENGTHS.length} value={rows.length} />}
        {rows.length > 0 && <Rows name={name} rows={rows} safe={safe} waiting={running} />}
        {done && <p><strong>{verdict(usableRange(rows))}</strong> {narrowed.value[name] && "The zone on the dial is narrowed to this for now."}</p>}
        {rows.length > 1 && <Charts rows={rows} safe={safe} />}
      </div>
    </Dialog>
  );
}

function Rows({ name, rows, safe, waiting }: {
  readonly name: string;
  readonly rows: readonly Swept[];
  readonly safe: Safe | null;
  readonly waiting: boolean;
}) {
  const suggested = waiting ? null : suggestion(rows, safe);
  return (
    <ol class="strength-rows" aria-label="Answers by strength">
      {rows.map((row) => (
        <li key={row.strength} class={row.usable ? "" : "unusable"}>
          <p class="head">
            <strong class="number">{signed(row.strength)}</strong>
            {row.usable ? <span>ok</span> : <span class="warn">▲ {row.loops ? "repeats itself" : "no answer"}</span>}
            <span class="soft small">{row.kl === null ? "" : `${figure(row.kl, 2)} nat`} · {Math.round(100 * row.distinct)} % distinct</span>
            {row.strength === suggested && <span class="tag">suggested</span>}
          </p>
          <p class="said">{row.text.trim() || "(no answer)"}</p>
          <button type="button" onClick={() => setDial(name, row.strength)}>Set the dial to {signed(row.strength)}</button>
        </li>
      ))}
    </ol>
  );
}

function Charts({ rows, safe }: { readonly rows: readonly Swept[]; readonly safe: Safe | null }) {
  const spent = rows.filter((row) => row.kl !== null);
  return (
    <section class="stack tight" aria-label="Measures by strength">
      <div class="pair">
        <LineChart
          title="KL, nat per token"
          summary={`KL by strength: ${spent.map((row) => `${signed(row.strength)}: ${figure(row.kl ?? 0, 2)}`).join(", ")}`}
          points={spent.map((row) => ({ x: row.strength, y: row.kl ?? 0, broken: !row.usable }))}
          zone={safe}
          from={0}
        />
        <LineChart
          title="Distinct three-word groups, %; dashed: below 75 % text repeats itself"
          summary={`Distinct three-word groups by strength: ${rows.map((row) => `${signed(row.strength)}: ${Math.round(100 * row.distinct)} %`).join(", ")}`}
          points={rows.map((row) => ({ x: row.strength, y: 100 * row.distinct, broken: !row.usable }))}
          zone={safe}
          mark={75}
        />
      </div>
      <p class="hint">▲ marks strengths whose answer is not usable. The shaded part is the card's safe range.</p>
      <Numbers
        caption="Measures by strength"
        head={["Strength", "KL, nat per token", "Distinct, %", "Usable"]}
        rows={rows.map((row) => [signed(row.strength), row.kl === null ? "–" : figure(row.kl), figure(100 * row.distinct), row.usable ? "yes" : "no"])}
      />
    </section>
  );
}

function setDial(name: string, strength: number): void {
  setStrength(name, strength);
  breaksOf.value = null;
  location.hash = "try";
  announce(`${name} is set to ${signed(strength)}`);
}

/** Return the ends of the strengths around 0 whose answers are all usable; null if that at 0 is not. */
function usableRange(rows: readonly Swept[]): { readonly low: number; readonly high: number } | null {
  const sorted = [...rows].sort((a, b) => a.strength - b.strength);
  const middle = sorted.findIndex((row) => row.strength === 0);
  if (!sorted[middle]?.usable) return null;
  let [first, last] = [middle, middle];
  while (sorted[first - 1]?.usable) first--;
  while (sorted[last + 1]?.usable) last++;
  return { low: sorted[first]!.strength, high: sorted[last]!.strength };
}

/** Narrow the zone that the dial draws in this session, where a strength inside the card's range has broken. */
function narrow(name: string, rows: readonly Swept[], safe: Safe | null): void {
  const usable = usableRange(rows);
  if (!usable) return;
  const card = safe ?? { low: -MAX_STRENGTH, high: MAX_STRENGTH };
  const broken = rows.filter((row) => !row.usable && row.strength >= card.low && row.strength <= card.high);
  if (!broken.length) return;
  const low = broken.some((row) => row.strength < 0) ? usable.low : card.low;
  const high = broken.some((row) => row.strength > 0) ? usable.high : card.high;
  narrowed.value = { ...narrowed.value, [name]: { low, high, why: "answers to your message repeat themselves or are empty beyond" } };
}

function verdict(usable: { readonly low: number; readonly high: number } | null): string {
  if (!usable) return "The answer is not usable even without steering, so this message says nothing about the vector.";
  const [least, most] = [STRENGTHS[0], STRENGTHS.at(-1)];
  if (usable.low === least && usable.high === most) return "On this message no strength breaks.";
  return `On this message answers hold together from ${signed(usable.low)} to ${signed(usable.high)}.`;
}

/** Return the strongest strength that is usable here and safe by the card. */
function suggestion(rows: readonly Swept[], safe: Safe | null): number | null {
  const usable = usableRange(rows);
  if (!usable) return null;
  const within = rows.map((row) => row.strength).filter((strength) => strength > 0 && strength <= Math.min(usable.high, safe?.high ?? Infinity));
  return within.length ? Math.max(...within) : null;
}
