// The answers of a first visit, which come with the page: web/first.py has asked the default model for them.
import { effect } from "@preact/signals";
import { type Receipt, shipped } from "../api";
import { info } from "./server";
import { type Answer, type Column, draft, firstVisit, type Token, type Turn, turns } from "./talk";

/** The model that has given them; they say nothing about another one. */
const EXAMPLE_MODEL = "smollm2";
const EXAMPLE_QUESTION = "How was your day?";

interface Kept {
  readonly steering: string;
  readonly tokens: readonly (readonly [text: string, reading: number, logprob: number, others: readonly (readonly [string, number])[]])[];
  readonly finish: string;
  readonly receipt: Receipt;
}

interface First {
  readonly question: string;
  readonly vector: string;
  readonly strength: number;
  readonly answers: Readonly<Record<Column, Kept>>;
}

/** Show the example on a first visit; another model gets its question only. */
export function showExample(): void {
  const end = effect(() => {
    const model = info.value?.model.name;
    if (model === undefined) return;
    queueMicrotask(() => end());
    const shows = turns.peek().some((turn) => turn.example);
    if (model !== EXAMPLE_MODEL) {
      if (shows) turns.value = [];
      if ((shows || firstVisit) && !draft.peek()) draft.value = EXAMPLE_QUESTION;
    } else if (firstVisit) {
      shipped<First>("first.json").then((first) => {
        if (!turns.value.length) turns.value = [asTurn(first)];
      }, () => undefined); // an example less
    }
  });
}

function asTurn({ question, vector, strength, answers }: First): Turn {
  const shown = Object.entries(answers).map(([column, kept]) => [column, [asAnswer(kept, vector)]] as const);
  const dials = [{ name: vector, strength, on: true }];
  return { id: 1, user: question, dials, answers: Object.fromEntries(shown), picked: {}, example: true };
}

function asAnswer({ steering, tokens, finish, receipt }: Kept, vector: string): Answer {
  return {
    status: "done", steering, system: null, seed: 0, temperature: 0, tokens: tokens.map((token) => asToken(token, vector)), finish, receipt,
    beyondSafe: false, seconds: 0, retryAt: null, error: null,
  };
}

function asToken([text, reading, logprob, others]: Kept["tokens"][number], vector: string): Token {
  return { text, readings: { [vector]: reading }, logprob, others: others.map(([other, its]) => ({ text: other, logprob: its })) };
}
