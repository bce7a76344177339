// Numbers to places on a chart, and to words.

/** Return round numbers from low to high, about `most` of them. */
export function ticks(low: number, high: number, most = 4): number[] {
  if (!(high > low)) return [low];
  const rough = (high - low) / most;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((times) => power * times).find((each) => each >= rough * 0.999) ?? power * 10;
  const found: number[] = [];
  for (let n = Math.ceil(low / step - 1e-9); n <= high / step + 1e-9; n++) found.push(Number((n * step).toPrecision(12)));
  return found;
}

/** Return the place of a number between two others, in per cent and clamped to them. */
export function percent(value: number, low: number, high: number): number {
  return (100 * (Math.min(Math.max(value, low), high) - low)) / (high - low || 1);
}

/** Return a number as it is read: few digits, and a minus sign that is one. */
export function figure(value: number, digits = 3): string {
  const rounded = Number(value.toPrecision(digits));
  return String(Math.abs(rounded) < 1e-9 ? 0 : rounded).replace("-", "−");
}

/** The same with its sign. */
export function change(value: number, digits = 3): string {
  const written = figure(value, digits);
  return value > 0 && written !== "0" ? `+${written}` : written;
}

/** Return a span of seconds as people say it. */
export function duration(seconds: number): string {
  if (seconds < 10) return "a few seconds";
  if (seconds < 55) return `${Math.round(seconds / 5) * 5} seconds`;
  const minutes = Math.round(seconds / 30) / 2;
  if (minutes < 10) return minutes === 1 ? "1 minute" : `${String(minutes).replace(".5", "½").replace(/^0½/, "½")} minutes`;
  return `${Math.round(minutes)} minutes`;
}
