import { percent, ticks, figure } from "./scale";
import "./charts.css";

export interface Point {
  readonly x: number;
  readonly y: number;
  readonly low?: number;
  readonly high?: number;
  readonly broken?: boolean;
}

const ROOM = 0.08; // above and below the points, as a share of their span

/** A measure over strength: points with their intervals, the safe zone and the range of chance shaded. Places are in
 * per cent, so that text keeps its size on any screen. */
export function LineChart({ title, summary, points, zone, band, mark, from, height = 140 }: {
  readonly title: string;
  /** What a screen reader hears instead of the picture. */
  readonly summary: string;
  readonly points: readonly Point[];
  readonly zone?: { readonly low: number; readonly high: number } | null;
  readonly band?: { readonly low: number; readonly high: number } | null;
  /** A number to draw a line at. */
  readonly mark?: number;
  /** A number that the axis must contain. */
  readonly from?: number;
  readonly height?: number;
}) {
  if (points.length < 2) return null;
  const sorted = [...points].sort((a, b) => a.x - b.x);
  const xs = sorted.map((point) => point.x);
  const [left, right] = [Math.min(...xs), Math.max(...xs)];
  const values = sorted.flatMap((point) => [point.y, point.low ?? point.y, point.high ?? point.y]);
  if (from !== undefined) values.push(from);
  if (band) values.push(band.low, band.high);
  if (mark !== undefined) values.push(mark);
  const span = Math.max(...values) - Math.min(...values) || 1;
  const [low, high] = [Math.min(...values) - ROOM * span, Math.max(...values) + ROOM * span];
  const across = (x: number) => `${3 + 0.94 * percent(x, left, right)}%`;
  const up = (y: number) => `${100 - percent(y, low, high)}%`;
  return (
    <div class="chart" role="img" aria-label={summary}>
      <p class="title">{title}</p>
      <div class="scale" style={{ height: `${height}px` }}>
        {ticks(low, high).map((tick) => (
          <span key={tick} style={{ top: up(tick) }}>{figure(tick)}</span>
        ))}
      </div>
      <svg width="100%" height={height}>
        {zone && zone.high > zone.low && (
          <rect class="zone" x={across(Math.max(zone.low, left))} width={`${0.94 * (percent(zone.high, left, right) - percent(zone.low, left, right))}%`} y="0" height="100%" />
        )}
        {band && <rect class="chance" x="0" width="100%" y={up(band.high)} height={`${percent(band.high, low, high) - percent(band.low, low, high)}%`} />}
        {ticks(low, high).map((tick) => <line key={tick} class="grid" x1="0" x2="100%" y1={up(tick)} y2={up(tick)} />)}
        {left < 0 && right > 0 && <line class="zero" x1={across(0)} x2={across(0)} y1="0" y2="100%" />}
        {mark !== undefined && <line class="mark" x1="0" x2="100%" y1={up(mark)} y2={up(mark)} />}
        {sorted.slice(1).map((point, n) => (
          <line key={point.x} class="line" x1={across(sorted[n]!.x)} y1={up(sorted[n]!.y)} x2={across(point.x)} y2={up(point.y)} />
        ))}
        {sorted.map((point) => <Dot key={point.x} point={point} across={across} up={up} />)}
      </svg>
      <div class="strengths">
        {labelled(xs, left, right).map((x) => <span key={x} style={{ left: across(x) }}>{figure(x)}</span>)}
      </div>
    </div>
  );
}

function Dot({ point, across, up }: {
  readonly point: Point;
  readonly across: (x: number) => string;
  readonly up: (y: number) => string;
}) {
  const [x, y] = [across(point.x), up(point.y)];
  const tone = point.x > 0 ? "plus" : point.x < 0 ? "minus" : "base";
  return (
    <g class={`dot ${tone}`}>
      {point.low !== undefined && point.high !== undefined && <line class="whisker" x1={x} x2={x} y1={up(point.low)} y2={up(point.high)} />}
      {point.broken ? <text class="broken" x={x} y={y} dy="5" text-anchor="middle">▲</text> : <circle cx={x} cy={y} r="4.5" />}
    </g>
  );
}

/** Return the strengths that have room for a label: where they would overlap, whole ones and those near 0 win. */
function labelled(xs: readonly number[], left: number, right: number): number[] {
  const taken: number[] = [];
  const order = [...xs].sort((a, b) => Number(!Number.isInteger(a)) - Number(!Number.isInteger(b)) || Math.abs(a) - Math.abs(b));
  for (const x of order) if (taken.every((other) => Math.abs(other - x) > 0.11 * (right - left))) taken.push(x);
  return taken;
}
