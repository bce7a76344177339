// Numbers with their words.

/** Ends of what words say of a KL in nats per token. */
export const LEVELS = [
  { upto: 0.3, word: "gentle" },
  { upto: 0.6, word: "clear" },
  { upto: 1.1, word: "strong" },
] as const;

/** Return a word for a KL in nats per token. */
export function strengthWord(kl: number): string {
  return LEVELS.find(({ upto }) => kl < upto)?.word ?? "text breaks";
}

/** Return a KL with its unit and its word. */
export function nats(kl: number): string {
  return kl === 0 ? "0 nat" : `${kl.toFixed(2)} nat, ${strengthWord(kl)}`;
}

/** Return in words how much of what two terms add is the same. */
export function shareWords(cosine: number): string {
  const size = Math.abs(cosine);
  const much = size < 0.05 ? "nothing" : size < 0.3 ? "a little" : size < 0.6 ? "much" : "nearly all";
  if (much === "nothing") return "share nothing";
  return cosine > 0 ? `share ${much}` : `oppose each other ${much === "nearly all" ? "almost wholly" : much === "much" ? "much" : "a little"}`;
}

/** Return a strength without the noise of binary fractions. */
export function tidy(strength: number): number {
  return Math.round(strength * 1000) / 1000;
}

/** Return a number with its sign. */
export function signed(value: number, digits = 3): string {
  const rounded = Number(value.toFixed(digits));
  return rounded > 0 ? `+${rounded}` : rounded < 0 ? `−${-rounded}` : "0";
}

/** Return a probability from its logarithm, in percent. */
export function percent(logprob: number): string {
  const share = 100 * Math.exp(logprob);
  return `${share >= 10 ? share.toFixed(0) : share >= 0.1 ? share.toFixed(1) : "< 0.1"} %`;
}

/** Share of runs of three words that are distinct, below which an answer is repetitive; as calibration measures it. */
export const MIN_DISTINCT = 0.75;

export function distinctShare(text: string): number {
  const words = text.trim().split(/\s+/);
  const runs = words.slice(2).map((_, at) => words.slice(at, at + 3).join(" "));
  return runs.length ? new Set(runs).size / runs.length : 1;
}

export function countWords(text: string): number {
  return text.trim() ? text.trim().split(/\s+/).length : 0;
}
