// The charts of a card, each with the same numbers as a table.
import type { Card, Interval, VectorDetails, WrittenEffect } from "../api";
import { type Bar, Bars } from "../charts/bars";
import { LineChart, type Point } from "../charts/line-chart";
import { Numbers } from "../charts/numbers";
import { change, figure } from "../charts/scale";
import { signed } from "../state/dials";

export function CardCharts({ details }: { readonly details: VectorDetails }) {
  const { card } = details;
  const written = card?.written ? [card.written["default"], card.written["safe"]].filter((each): each is WrittenEffect => Boolean(each)) : details.written;
  return (
    <>
      {written.length > 0 && <Written details={details} written={written} />}
      {card && <Preference card={card} />}
      {card && <Cost card={card} />}
    </>
  );
}

function Written({ details, written }: { readonly details: VectorDetails; readonly written: readonly WrittenEffect[] }) {
  const { card, poles, safe } = details;
  const chance = card?.chance ?? null;
  const points: Point[] = [{ x: 0, y: 0 }];
  for (const effect of written) {
    for (const [sign, measured] of Object.entries(effect.effect)) {
      const x = effect.strengths[sign] ?? 0;
      if (x !== 0 && !points.some((point) => point.x === x)) points.push({ x, y: measured.value, low: measured.low, high: measured.high });
    }
  }
  const [first] = written;
  const prompts: Bar[] = first
    ? (["+", "-"] as const).flatMap((sign) => {
        const bars: Bar[] = [];
        const [own, prompt] = [first.effect[sign], first.prompt_effect[sign]];
        const tone = sign === "+" ? "plus" : "minus";
        const pole = poles?.[sign] ?? (sign === "+" ? "positive" : "negative");
        if (own) bars.push({ label: `vector at ${signed(first.strengths[sign] ?? 0)}, ${pole}`, ...own, tone });
        if (prompt) bars.push({ label: `system prompt, ${pole}`, ...prompt });
        return bars;
      })
    : [];
  const beyond = chance ? ` Random directions reach from ${change(chance.low)} to ${change(chance.high)}.` : "";
  return (
    <section class="stack tight" aria-label="Written effect">
      <h2>What it does to answers</h2>
      <p class="hint">
        Written effect: how much more an answer sounds like {poles?.["+"] ?? "the positive pole"} than like {poles?.["-"] ?? "the negative pole"}, by the
        unsteered model's own judgement, in nat per token. Lines are 95 % intervals.{chance && " Grey: where random directions of the same KL come to."}
      </p>
      <div class="pair">
        <LineChart
          title="Written effect by strength"
          summary={`Written effect by strength: ${points.map((point) => `${signed(point.x)}: ${change(point.y)}`).join(", ")}.${beyond}`}
          points={points}
          zone={safe}
          band={chance}
          from={0}
          height={180}
        />
        <Bars
          summary={`Vector and system prompts: ${prompts.map((bar) => `${bar.label}: ${change(bar.value)}`).join(", ")}`}
          bars={prompts}
          band={chance}
          unit="nat per token"
        />
      </div>
      <Numbers
        caption="Written effects"
        head={["Of", "Effect", "95 % interval"]}
        rows={[
          ...[...points].sort((a, b) => a.x - b.x).map((point) => [`strength ${signed(point.x)}`, change(point.y), point.low === undefined ? "–" : range(point)]),
          ...prompts.filter((bar) => bar.tone === undefined).map((bar) => [bar.label, change(bar.value), range(bar)]),
          ...(chance ? [["random directions", "–", range(chance)]] : []),
          ...(first?.times_prompt ? [["times the prompt", figure(first.times_prompt.value), range(first.times_prompt)]] : []),
        ]}
      />
    </section>
  );
}

function Preference({ card }: { readonly card: Card }) {
  const bars: Bar[] = (["+", "-"] as const).flatMap((sign) => {
    const effect = card.effect[sign];
    return effect ? [{ label: `at ${sign === "+" ? "+1" : "−1"}, ${sign === "+" ? card.positive : card.negative}`, ...effect, tone: sign === "+" ? ("plus" as const) : ("minus" as const) }] : [];
  });
  if (card.prompt_swing) bars.push({ label: "both system prompts", ...card.prompt_swing });
  if (card.shuffled !== null) bars.push({ label: "shuffled labels", value: card.shuffled });
  if (!bars.length) return null;
  return (
    <section class="stack tight" aria-label="Preference">
      <h2>What it does to preferences</h2>
      <p class="hint">How much likelier answers in the character of {card.positive} become than those of {card.negative}, in nat per token.</p>
      <Bars summary={`Preference: ${bars.map((bar) => `${bar.label}: ${change(bar.value)}`).join(", ")}`} bars={bars} unit="nat per token" />
      <Numbers caption="Preference effects" head={["Of", "Effect", "95 % interval"]} rows={bars.map((bar) => [bar.label, change(bar.value), range(bar)])} />
    </section>
  );
}

function Cost({ card }: { readonly card: Card }) {
  const ends = (["-", "+"] as const).flatMap((sign) => {
    const cost = card.cost[sign];
    const end = sign === "+" ? card.safe?.high : card.safe?.low;
    return cost ? [{ sign, cost, label: end === undefined ? sign : signed(end) }] : [];
  });
  if (!ends.length) return null;
  const tone = (sign: "+" | "-") => (sign === "+" ? ("plus" as const) : ("minus" as const));
  const bars: Bar[] = ends.flatMap(({ sign, cost, label }) => [
    ...(cost.accuracy_change ? [{ label: `facts at ${label}`, value: 100 * cost.accuracy_change.value, low: 100 * cost.accuracy_change.low, high: 100 * cost.accuracy_change.high, tone: tone(sign) }] : []),
    ...(cost.relevance_change === null ? [] : [{ label: `relevance at ${label}`, value: 100 * cost.relevance_change, tone: tone(sign) }]),
  ]);
  return (
    <section class="stack tight" aria-label="Cost">
      <h2>What it costs at the ends of the safe range</h2>
      <p class="hint">Change of the share of simple facts that the model knows, and of how near answers stay to their question, in points of a hundred.</p>
      {bars.length > 0 && <Bars summary={`Changes: ${bars.map((bar) => `${bar.label}: ${change(bar.value)}`).join(", ")}`} bars={bars} unit="points" />}
      <div class="scroll" tabIndex={0} role="region" aria-label="Costs">
        <table class="data costs">
          <thead>
            <tr>
              <th scope="col">Measure</th>
              {ends.map(({ label }) => <th key={label} scope="col" class="number">at {label}</th>)}
            </tr>
          </thead>
          <tbody>
            {measures(card).map(({ name, of }) => (
              <tr key={name}>
                <th scope="row">{name}</th>
                {ends.map(({ sign, label }) => <td key={label} class="number">{of(sign)}</td>)}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}

type Ends = "+" | "-";

function measures(card: Card): readonly { readonly name: string; readonly of: (sign: Ends) => string }[] {
  const shown = (value: number | null | undefined, write: (value: number) => string) => (value === null || value === undefined ? "–" : write(value));
  return [
    { name: "KL, nat per token", of: (sign) => shown(card.cost[sign]?.kl, (kl) => figure(kl)) },
    { name: "Perplexity, times the plain answers'", of: (sign) => shown(card.cost[sign]?.perplexity_ratio, (ratio) => figure(ratio)) },
    { name: "Answers that repeat themselves, %", of: (sign) => shown(card.cost[sign]?.loops, (share) => figure(100 * share)) },
    { name: "Facts known, change in points", of: (sign) => shown(card.cost[sign]?.accuracy_change?.value, (points) => change(100 * points)) },
    { name: "95 % interval", of: (sign) => (card.cost[sign]?.accuracy_change ? range(scaled(card.cost[sign].accuracy_change, 100)) : "–") },
    { name: "Relevance, change in points", of: (sign) => shown(card.cost[sign]?.relevance_change, (points) => change(100 * points)) },
    { name: "Harmful requests refused at ±1, %", of: (sign) => shown(card.refuses_harmful?.[sign], (share) => figure(100 * share)) },
  ];
}

function scaled({ value, low, high }: Interval, factor: number): Interval {
  return { value: factor * value, low: factor * low, high: factor * high };
}

function range({ low, high }: { readonly low?: number; readonly high?: number }): string {
  return low === undefined || high === undefined ? "–" : `${change(low)} to ${change(high)}`;
}
