import { change, percent, ticks, figure } from "./scale";
import "./charts.css";

export interface Bar {
  readonly label: string;
  readonly value: number;
  readonly low?: number;
  readonly high?: number;
  readonly tone?: "plus" | "minus" | "base";
}

/** Bars from zero with their intervals; `band` is the range of chance, shaded behind them all. */
export function Bars({ summary, bars, band, unit }: {
  readonly summary: string;
  readonly bars: readonly Bar[];
  readonly band?: { readonly low: number; readonly high: number } | null;
  readonly unit: string;
}) {
  const values = [0, ...bars.flatMap((bar) => [bar.value, bar.low ?? bar.value, bar.high ?? bar.value])];
  if (band) values.push(band.low, band.high);
  const span = Math.max(...values) - Math.min(...values) || 1;
  const [low, high] = [Math.min(...values) - 0.03 * span, Math.max(...values) + 0.03 * span];
  const at = (value: number) => `${percent(value, low, high)}%`;
  const wide = (from: number, to: number) => `${percent(Math.max(from, to), low, high) - percent(Math.min(from, to), low, high)}%`;
  return (
    <div class="bars" role="img" aria-label={summary}>
      {bars.map((bar) => (
        <div key={bar.label} class="bar-row">
          <span class="bar-label">{bar.label}</span>
          <svg width="100%" height="26">
            {band && <rect class="chance" x={at(band.low)} width={wide(band.low, band.high)} y="0" height="100%" />}
            <rect class={`bar ${bar.tone ?? "base"}`} x={at(Math.min(0, bar.value))} width={wide(0, bar.value)} y="6" height="14" />
            {bar.low !== undefined && bar.high !== undefined && <line class="whisker" x1={at(bar.low)} x2={at(bar.high)} y1="13" y2="13" />}
            <line class="zero" x1={at(0)} x2={at(0)} y1="0" y2="100%" />
          </svg>
          <span class="bar-value">{change(bar.value, 2)}</span>
        </div>
      ))}
      <div class="bar-row">
        <span class="bar-label soft">{unit}</span>
        <div class="strengths">{ticks(low, high, 3).map((tick) => <span key={tick} style={{ left: at(tick) }}>{figure(tick)}</span>)}</div>
        <span />
      </div>
    </div>
  );
}
