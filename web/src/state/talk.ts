// The conversation: turns, each answered in several columns. A column is a conversation of its own.
import { computed } from "@preact/signals";
import type { Receipt } from "../api";
import { type Dial, dials, mixText, usable } from "./dials";
import { isBoolean, isKept, isString, kept } from "./kept";
import { vectorOf } from "./server";

export const COLUMNS = ["plain", "steered", "opposite", "prompt"] as const;
export type Column = (typeof COLUMNS)[number];

export const TITLES: Readonly<Record<Column, string>> = {
  plain: "As it is",
  steered: "Steered",
  opposite: "The other way",
  prompt: "System prompt instead",
};

/** One token of an answer: its text, its readings by vector (z), its log-probability, and what else it could have been. */
export interface Token {
  readonly text: string;
  readonly readings: Readonly<Record<string, number>>;
  readonly logprob: number | null;
  readonly others: readonly { readonly text: string; readonly logprob: number }[];
  readonly thought?: boolean; // of a model that thinks before it answers
}

export type Status = "waiting" | "streaming" | "done" | "stopped" | "lost" | "failed";

export interface Answer {
  readonly status: Status;
  readonly steering: string; // text form
  readonly system: string | null;
  readonly seed: number;
  readonly temperature: number;
  readonly tokens: readonly Token[];
  readonly finish: string | null;
  readonly receipt: Receipt | null;
  readonly beyondSafe: boolean;
  readonly seconds: number;
  readonly retryAt: number | null; // time in milliseconds at which a full queue is asked again
  readonly error: { readonly what: string; readonly fix: string | null; readonly code: string } | null;
}

export interface Turn {
  readonly id: number;
  readonly user: string;
  readonly dials: readonly Dial[];
  /** Answers by column: the first one, and those of other seeds. */
  readonly answers: Readonly<Partial<Record<Column, readonly Answer[]>>>;
  /** Which of them the conversation goes on with. */
  readonly picked: Readonly<Partial<Record<Column, number>>>;
  readonly example?: boolean; // shipped with the page
}

export interface Sampling {
  readonly maxTokens: number;
  readonly temperature: number;
  readonly seed: number;
}

/** Whether this browser has never had a conversation. */
export const firstVisit = !isKept("turns");
export const turns = kept<readonly Turn[]>("turns", [], isTurns, withoutAlternatives);
export const shown = kept<readonly Column[]>("columns", ["plain", "steered", "opposite"], isColumns);
export const sampling = kept<Sampling>("sampling", { maxTokens: 64, temperature: 0, seed: 0 }, isSampling);
/** System prompt of the column that has one instead of a steering; empty for one made of the first dial. */
export const systemPrompt = kept<string>("system", "", isString);
/** Vector whose readings colour the words; empty for none. */
export const colourBy = kept<string>("colour", "happy", isString);
/** Whether the last question is answered again as the dials are turned; for fast machines. */
export const live = kept<boolean>("live", false, isBoolean);
export const draft = kept<string>("draft", "", isString);
/** First turn that the model is still given. */
export const since = kept<number>("since", 0, (value): value is number => typeof value === "number");

// Answers that were being written when the page was closed.
if (turns.value.length) turns.value = turns.value.map((turn) => ({
  ...turn,
  answers: mapAnswers(turn.answers, (answer) =>
    answer.status === "waiting" || answer.status === "streaming"
      ? { ...answer, status: "lost", retryAt: null, error: { what: "the page was closed", fix: null, code: "closed" } }
      : answer,
  ),
}));

/** Return an answer's text, without thoughts. */
export function textOf(answer: Answer): string {
  return answer.tokens.map((token) => (token.thought ? "" : token.text)).join("");
}

/** Return the answer that a column shows, and goes on with. */
export function pickedOf(turn: Turn, column: Column): Answer | undefined {
  const answers = turn.answers[column];
  return answers?.[turn.picked[column] ?? 0] ?? answers?.[0];
}

/** The system prompt of the last column: the user's, or one made of the poles of the strongest dial. */
export const promptText = computed(() => {
  if (systemPrompt.value) return systemPrompt.value;
  const strongest = usable(dials.value)
    .filter((dial) => dial.on && dial.strength !== 0)
    .toSorted((a, b) => Math.abs(b.strength) - Math.abs(a.strength))[0];
  const poles = strongest && vectorOf.value.get(strongest.name)?.poles;
  const pole = poles?.[strongest!.strength > 0 ? "+" : "-"];
  return `You are extremely ${pole ?? strongest?.name ?? "helpful"}.`;
});

/** Return the steering and the system prompt of a column. */
export function asksFor(column: Column, mix: readonly Dial[]): { steering: string; system: string | null } {
  if (column === "prompt") return { steering: "none", system: promptText.value };
  const factor = { plain: 0, steered: 1, opposite: -1 }[column];
  return { steering: factor === 0 ? "none" : mixText(usable(mix), factor), system: null };
}

/** Return whether an answer is of another steering than its turn has now. */
export function isStale(turn: Turn, column: Column): boolean {
  const answer = pickedOf(turn, column);
  if (!answer) return false;
  const last = turn === turns.value.at(-1);
  if (column === "prompt" && !last) return false; // the prompt is of the conversation, not of a turn
  const { steering, system } = asksFor(column, last ? dials.value : turn.dials);
  return answer.steering !== steering || answer.system !== system;
}

/** Whether the last turn was answered with other dials than there are now. */
export const stale = computed(() => {
  const last = turns.value.at(-1);
  return last !== undefined && shown.value.some((column) => isStale(last, column));
});

/** Message of a chat, as the server takes it. */
export interface Message {
  readonly role: "system" | "user" | "assistant";
  readonly content: string;
}

/** Return the chat that a column has come to at a turn, whose answer it ends before. */
export function messagesOf(column: Column, id: number, system: string | null): Message[] {
  const messages: Message[] = system ? [{ role: "system", content: system }] : [];
  for (const turn of turns.value) {
    if (turn.id < since.value) continue;
    messages.push({ role: "user", content: turn.user });
    if (turn.id === id) break;
    const given = pickedOf(turn, column) ?? pickedOf(turn, "plain");
    if (given) messages.push({ role: "assistant", content: textOf(given) });
  }
  return messages;
}

/** Change one turn. */
export function changeTurn(id: number, change: (turn: Turn) => Turn): void {
  turns.value = turns.value.map((turn) => (turn.id === id ? change(turn) : turn));
}

export function pick(id: number, column: Column, number: number): void {
  changeTurn(id, (turn) => ({ ...turn, picked: { ...turn.picked, [column]: number } }));
}

/** Set a dial of an earlier turn. */
export function turnOf(id: number, name: string, strength: number): void {
  changeTurn(id, (turn) => ({
    ...turn,
    dials: turn.dials.some((dial) => dial.name === name)
      ? turn.dials.map((dial) => (dial.name === name ? { ...dial, strength, on: true } : dial))
      : [...turn.dials, { name, strength, on: true }],
  }));
}

export function setShown(column: Column, on: boolean): void {
  const wanted = new Set(shown.value);
  if (on) wanted.add(column);
  else wanted.delete(column);
  shown.value = COLUMNS.filter((each) => wanted.has(each));
}

/** Let the model forget the first turn that it is still given. */
export function forgetFirst(): void {
  const known = turns.value.filter((turn) => turn.id >= since.value);
  if (known.length > 1) since.value = known[1]!.id;
}

function mapAnswers(answers: Turn["answers"], change: (answer: Answer) => Answer): Turn["answers"] {
  return Object.fromEntries(Object.entries(answers).map(([column, list]) => [column, list.map(change)]));
}

function withoutAlternatives(all: readonly Turn[]): readonly Turn[] {
  const slim = (answer: Answer) => ({ ...answer, tokens: answer.tokens.map((token) => ({ ...token, others: [] })) });
  return all.map((turn) => ({ ...turn, answers: mapAnswers(turn.answers, slim) }));
}

function isColumns(value: unknown): value is readonly Column[] {
  return Array.isArray(value) && value.length > 0 && value.every((column) => COLUMNS.includes(column as Column));
}

function isSampling(value: unknown): value is Sampling {
  const given = value as Sampling | null;
  return typeof given?.maxTokens === "number" && typeof given.temperature === "number" && typeof given.seed === "number";
}

function isTurns(value: unknown): value is readonly Turn[] {
  return (
    Array.isArray(value) &&
    value.every(
      (turn) =>
        typeof turn?.user === "string" &&
        typeof turn.picked === "object" &&
        Array.isArray(turn.dials) &&
        Object.values((turn.answers ?? { none: 0 }) as object).every(Array.isArray),
    )
  );
}
