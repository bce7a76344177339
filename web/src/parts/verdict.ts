// Verdicts in words: of a card, or of what a training has measured itself.
import type { Interval, Vector, VectorDetails } from "../api";
import { signed } from "../state/dials";

export interface Verdict {
  readonly word: string;
  readonly sentences: readonly string[];
}

const GLYPHS: Readonly<Record<string, string>> = { works: "✓", "one way only": "◐", weak: "○", "does not work": "✕" };

const ORDER = Object.keys(GLYPHS);

/** Return the place of a verdict, the best first; what was not evaluated comes before what does not work. */
export function rank(verdict: Vector["verdict"]): number {
  const at = ORDER.indexOf(verdict ?? "");
  return at < 0 ? ORDER.length - 1.5 : at;
}

/** Return the sign that stands beside a verdict. */
export function glyph(verdict: Vector["verdict"]): string {
  return (verdict && GLYPHS[verdict]) ?? "·";
}

/** Return an interval for people. */
export function between({ low, high }: Interval, digits = 1): string {
  return `95 % interval ${low.toFixed(digits)} to ${high.toFixed(digits)}`.replaceAll("-", "−");
}

export function verdictOf(details: VectorDetails): Verdict {
  const { card, safe, header } = details;
  if (card) return { word: capital(card.word), sentences: card.sentences };
  if (header.distillation) {
    const { kl_before, kl_after, prompt_tokens } = header.distillation;
    const nearer = Math.round(100 * (1 - kl_after / kl_before));
    return {
      word: `${nearer} % of the way to its prompt`,
      sentences: [
        `The prompted model is ${kl_before.toFixed(2)} nat per token away from the plain one, and ${kl_after.toFixed(2)} from the steered one.`,
        `It saves ${prompt_tokens} tokens in every request.`,
      ],
    };
  }
  if (!safe) {
    return { word: "Not measured", sentences: ["This training gives the direction and its unit of strength. Train with more effort for a safe range."] };
  }
  return { word: ownWord(details), sentences: [`Safe range: ${safe.why}.`.replaceAll(/(?<![\w])-(?=\d)/g, "−"), ...effects(details)] };
}

function ownWord({ safe, poles, written }: VectorDetails): string {
  if (!safe || (safe.low === 0 && safe.high === 0)) return "Does not work: text holds together at no strength";
  if (safe.low === 0) return `One way only: towards ${poles?.["+"] ?? "its positive pole"}`;
  if (safe.high === 0) return `One way only: towards ${poles?.["-"] ?? "its negative pole"}`;
  const swing = written[0]?.swing;
  if (!swing) return "It holds together both ways; its effect was not measured";
  return swing.low > 0 ? "It moves what the model writes, both ways together" : "Weak: what the model writes hardly moves";
}

function effects({ written }: VectorDetails): string[] {
  return written.slice(0, 1).map((effect) => {
    const at = `From ${signed(effect.strengths["-"] ?? 0)} to ${signed(effect.strengths["+"] ?? 0)}`;
    if (!effect.times_prompt) return `${at}: ${effect.swing.value.toFixed(3)} nat per token. It is not compared with system prompts, because ${effect.reason}.`;
    return `${at} it does ${effect.times_prompt.value.toFixed(1)} times what system prompts for the two poles do (${between(effect.times_prompt)}).`;
  });
}

function capital(text: string): string {
  return text[0]!.toUpperCase() + text.slice(1);
}
