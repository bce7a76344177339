// The answers of a first visit, which come with the page: web/first.py has asked the default model for them.
import type { Receipt } from "../api";
import first from "../first.json";
import type { Answer, Column, Token, Turn } from "./talk";

interface Kept {
  readonly steering: string;
  readonly tokens: readonly (readonly [text: string, reading: number, logprob: number, others: readonly (readonly [string, number])[]])[];
  readonly finish: string;
  readonly receipt: Receipt;
}

/** The model that has given them; they say nothing about another one. */
export const EXAMPLE_MODEL = first.model;
export const EXAMPLE_QUESTION = first.question;

/** Return a conversation of one turn. */
export function exampleTurns(): readonly Turn[] {
  const answers = Object.entries(first.answers as unknown as Record<string, Kept>).map(
    ([column, kept]) => [column as Column, [asAnswer(kept)]] as const,
  );
  const dials = [{ name: first.vector, strength: first.strength, on: true }];
  return [{ id: 1, user: first.question, dials, answers: Object.fromEntries(answers), picked: {}, example: true }];
}

function asAnswer({ steering, tokens, finish, receipt }: Kept): Answer {
  return {
    status: "done", steering, system: null, seed: 0, temperature: 0, tokens: tokens.map(asToken), finish, receipt,
    beyondSafe: false, seconds: 0, retryAt: null, error: null,
  };
}

function asToken([text, reading, logprob, others]: Kept["tokens"][number]): Token {
  const readings = { [first.vector]: reading };
  return { text, readings, logprob, others: others.map(([other, its]) => ({ text: other, logprob: its })) };
}
