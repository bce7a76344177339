// The dials, and the text form of the steering that they make. The server alone reads the text form.
import { computed, effect, signal } from "@preact/signals";
import { api, type Check, unwrap, type Vector } from "../api";
import { kept } from "./kept";
import { info, vectorOf } from "./server";
import { tidy } from "./words";

export { signed, tidy } from "./words";

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

/** Return the strengths inside which a vector's text holds together; null if that was never measured. */
export function safeOf(vector: Vector | undefined): Range | null {
  if (!vector) return null;
  const mine = narrowed.value[vector.name];
  const measured = vector.safe;
  if (!mine || !measured) return mine ?? measured;
  return { low: Math.max(mine.low, measured.low), high: Math.min(mine.high, measured.high), why: mine.why };
}

/** Return whether a strength is inside a range; ranges that were not measured hold everything. */
export function isInside(strength: number, range: Range | null): boolean {
  return range === null || (strength >= range.low && strength <= range.high);
}

/** Return the text form of a mix; strengths are multiplied by `factor` (−1 is the other way). */
export function mixText(mix: readonly Dial[], factor = 1): string {
  const terms = mix.filter((dial) => dial.on && (dial.text !== undefined || dial.strength !== 0));
  const written = terms.map((dial) => dial.text ?? `${dial.name}:${tidy(dial.strength * factor)}`);
  return written.join(" + ") || "none";
}

/** Return the dials of vectors that the server has; a vector that it lacks would fail the whole answer. */
export function usable(mix: readonly Dial[]): readonly Dial[] {
  return mix.filter((dial) => vectorOf.value.has(dial.name) || info.value === null);
}

export const text = computed(() => mixText(usable(dials.value)));

/** The server's reading of the current mix: predicted KL, cosines, warnings. */
export const check = signal<Check | null>(null);

/** Predicted KL of the term of a dial alone; null while it is not known. */
export function klOf(dial: Dial): number | null {
  if (!dial.on || (dial.strength === 0 && dial.text === undefined)) return 0;
  const wanted = dial.text ?? `${dial.name}:${tidy(dial.strength)}`;
  return check.value?.terms.find((term) => term.text === wanted)?.kl ?? null;
}

/** Set the strength of a dial, or whether it is on. */
export function turn(at: number, change: Partial<Pick<Dial, "strength" | "on">>): void {
  dials.value = dials.value.map((dial, n) => (n === at ? { ...dial, ...change } : dial));
}

/** Set the strength of a vector's dial, which is added if there is none. */
export function setStrength(name: string, strength: number): void {
  add(name);
  dials.value = dials.value.map((dial) => (dial.name === name && dial.text === undefined ? { ...dial, strength, on: true } : dial));
}

export function add(name: string): void {
  if (dials.value.some((dial) => dial.name === name && dial.text === undefined)) return;
  const strength = vectorOf.value.get(name)?.default_strength ?? 0.5;
  dials.value = [...dials.value, { name, strength, on: true }];
}

export function remove(at: number): void {
  dials.value = dials.value.filter((_, n) => n !== at);
}

/** Return what the server makes of a text form. */
export async function checked(written: string): Promise<Check> {
  return unwrap(await api.POST("/v1/steering/check", { body: { steering: written } }));
}

/** Set the dials from a text form; returns the server's answer, which may be a mistake with its column. */
export async function take(written: string): Promise<Check> {
  const answer = await checked(written);
  if (answer.ok) {
    const names = new Set<string>();
    dials.value = answer.terms.map((term) => {
      const plain = term.operator === "add" && term.strength !== null && term.text === `${term.vector}:${tidy(term.strength)}`;
      const turns = plain && !names.has(term.vector) && Math.abs(term.strength!) <= MAX_STRENGTH;
      if (turns) names.add(term.vector);
      return { name: term.vector, strength: term.strength ?? 0, on: true, ...(turns ? {} : { text: term.text }) };
    });
  }
  return answer;
}

let asked = 0;
effect(() => {
  const written = text.value;
  const known = info.value !== null; // asked again once the server is there
  const number = ++asked;
  if (!known) return;
  setTimeout(() => {
    if (number !== asked) return; // turned on since
    checked(written).then(
      (answer) => {
        if (number === asked) check.value = answer;
      },
      () => undefined, // the banner says that the server does not answer
    );
  }, 120);
});

function isDials(value: unknown): value is readonly Dial[] {
  return (
    Array.isArray(value) &&
    value.every((dial) => typeof dial?.name === "string" && typeof dial.strength === "number" && typeof dial.on === "boolean")
  );
}
