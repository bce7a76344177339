import { signed } from "../state/dials";

const BROKEN: Readonly<Record<string, string>> = {
  repetition: "answers repeat themselves",
  relevance: "answers leave the question",
  likelihood: "the text becomes unlikely",
  facts: "facts are lost",
  budget: "nothing was measured",
};

/** The strengths from −1 to +1, with those inside which text holds together, and what breaks beyond. */
export function SafeRange({ low, high, reasons, poles }: {
  readonly low: number;
  readonly high: number;
  readonly reasons: Readonly<Record<string, string>>;
  readonly poles: Readonly<Record<string, string>> | null;
}) {
  const at = (strength: number) => `${(100 * (Math.max(-1, Math.min(1, strength)) + 1)) / 2}%`;
  const why = (sign: string) => BROKEN[reasons[sign] ?? ""] ?? "it was not measured";
  return (
    <section class="stack tight" aria-label="Safe range">
      <h2>Safe range: {signed(low)} to {signed(high)}</h2>
      <div class="safe-track" aria-hidden="true">
        <span class="inside" style={{ left: at(low), right: `calc(100% - ${at(high)})` }} />
        <span class="middle" />
      </div>
      <div class="row small">
        <span><span class="minus">− {poles?.["-"] ?? ""}</span> below {signed(low)}, {why("-")}</span>
        <span class="end">above {signed(high)}, {why("+")} <span class="plus">{poles?.["+"] ?? ""} +</span></span>
      </div>
    </section>
  );
}
