// The dials, and the text form of the steering that they make. The server alone reads the text form.
import { computed, effect, signal } from "@preact/signals";
import { api, type Check, unwrap } from "../api";
import { kept } from "./kept";
import { vectorOf } from "./server";

/** One term of the mix: a vector at a strength; or a term that no dial can turn, by its text. */
export interface Dial {
  readonly name: string;
  readonly strength: number;
  readonly on: boolean;
  readonly text?: string;
}

export interface Range {
  readonly low: number;
  readonly high: number;
  readonly why: string;
}

export const MAX_STRENGTH = 1.5;
export const STEP = 0.05;

export const dials = kept<readonly Dial[]>("dials", [{ name: "happy", strength: 0.5, on: true }], isDials);

/** Safe ranges as they were found on the user's own prompts in this session, by vector. */
export const narrowed = signal<Readonly<Record<string, Range>>>({});

/** Return the text form of a mix; strengths are multiplied by `factor` (−1 is the other way). */
export function mixText(mix: readonly Dial[], factor = 1): string {
  const terms = mix.filter((dial) => dial.on && (dial.text !== undefined || dial.strength !== 0));
  const written = terms.map((dial) => dial.text ?? `${dial.name}:${tidy(dial.strength * factor)}`);
  return written.join(" + ") || "none";
}

export const text = computed(() => mixText(dials.value));

/** The server's reading of the current mix: predicted KL, cosines, warnings. */
export const check = signal<Check | null>(null);

/** Set the strength of a dial, or whether it is on. */
export function turn(name: string, change: Partial<Pick<Dial, "strength" | "on">>): void {
  dials.value = dials.value.map((dial) => (dial.name === name ? { ...dial, ...change } : dial));
}

export function add(name: string): void {
  if (dials.value.some((dial) => dial.name === name)) return;
  const strength = vectorOf.value.get(name)?.default_strength ?? 0.5;
  dials.value = [...dials.value, { name, strength, on: true }];
}

export function remove(name: string): void {
  dials.value = dials.value.filter((dial) => dial.name !== name);
}

/** Return what the server makes of a text form. */
export async function checked(written: string): Promise<Check> {
  return unwrap(await api.POST("/v1/steering/check", { body: { steering: written } }));
}

/** Set the dials from a text form; returns the server's answer, which may be a mistake with its column. */
export async function take(written: string): Promise<Check> {
  const answer = await checked(written);
  if (answer.ok) {
    dials.value = (answer.terms ?? []).map((term) => {
      const plain = term.operator === "add" && term.strength !== null && term.text === `${term.vector}:${tidy(term.strength)}`;
      return { name: term.vector, strength: term.strength ?? 0, on: true, ...(plain ? {} : { text: term.text }) };
    });
  }
  return answer;
}

let asked = 0;
effect(() => {
  const written = text.value;
  const number = ++asked;
  setTimeout(() => {
    if (number !== asked) return; // turned on since
    checked(written).then(
      (answer) => {
        if (number === asked) check.value = answer;
      },
      () => undefined, // what the server says of an unknown vector stands at its dial
    );
  }, 120);
});

/** Return a strength without the noise of binary fractions. */
export function tidy(strength: number): number {
  return Math.round(strength * 1000) / 1000;
}

/** Return a strength with its sign. */
export function signed(value: number, digits = 2): string {
  const rounded = Number(value.toFixed(digits));
  return rounded > 0 ? `+${rounded}` : rounded < 0 ? `−${-rounded}` : "0";
}

function isDials(value: unknown): value is readonly Dial[] {
  return (
    Array.isArray(value) &&
    value.every((dial) => typeof dial?.name === "string" && typeof dial.strength === "number" && typeof dial.on === "boolean")
  );
}
