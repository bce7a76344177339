// Requests for answers: one for each column, which the server answers together.
import { computed, effect, signal } from "@preact/signals";
import { ApiError } from "../api";
import { announce } from "./announce";
import { type Dial, dials, text } from "./dials";
import { info, refresh, vectorOf } from "./server";
import { type Asked, pieces } from "./stream";
import {
  type Answer, asksFor, changeTurn, type Column, colourBy, live, messagesOf, pickedOf, sampling, shown, since, stale, textOf, TITLES,
  type Token, turns,
} from "./talk";
import { countWords, nats } from "./words";

const FLUSH_AFTER = 40; // milliseconds: tokens of all columns appear together
const MAX_READINGS = 16;
const TRIES = 5;
const TURNED_AFTER = 400; // milliseconds
/** Temperature of further answers where that of the first one is 0, which leaves nothing to vary. */
export const TEMPERATURE_AGAIN = 0.8;

const running = signal<readonly AbortController[]>([]);
export const busy = computed(() => running.value.length > 0);
let series = 0; // a rerun of several turns ends when another one begins

/** Where the answers of a request go: a column of a turn, from a number on. */
interface Target {
  readonly id: number;
  readonly column: Column;
  readonly first: number;
  readonly count: number;
}

/** Ask a question in all columns that are shown. */
export function ask(user: string): void {
  stop();
  const example = turns.value.every((turn) => turn.example);
  const id = (turns.value.at(-1)?.id ?? 0) + 1;
  turns.value = [...(example ? [] : turns.value), { id, user, dials: dials.value, answers: {}, picked: {} }];
  void answerTurn(id, shown.value);
}

/** Answer the last turn again with the dials as they are now. */
export function again(): void {
  const last = turns.value.at(-1);
  if (!last) return;
  stop();
  changeTurn(last.id, ({ example: _, ...turn }) => ({ ...turn, dials: dials.value }));
  void answerTurn(last.id, shown.value);
}

/** Answer a turn and all that follow it again, each with its own dials. */
export async function rerunFrom(id: number): Promise<void> {
  stop();
  const mine = ++series;
  for (const turn of turns.value.filter((each) => each.id >= id)) {
    if (mine !== series) return;
    await answerTurn(turn.id, shown.value);
  }
}

/** Answer a turn in columns that lack an answer. */
export async function answerTurn(id: number, columns: readonly Column[]): Promise<void> {
  await Promise.all(columns.map((column) => answerColumn(id, column)));
}

/** Answer a turn again in one column. */
export async function answerColumn(id: number, column: Column): Promise<void> {
  const turn = turns.value.find((each) => each.id === id);
  if (!turn) return;
  const { steering, system } = asksFor(column, turn.dials);
  const { temperature, seed } = sampling.value;
  const blank = blankAnswer({ steering, system, temperature, seed });
  changeTurn(id, (each) => ({
    ...each,
    answers: { ...each.answers, [column]: [blank] },
    picked: { ...each.picked, [column]: 0 },
  }));
  await run({ id, column, first: 0, count: 1 }, { messages: messagesOf(column, id, system), steering, temperature, seed });
}

/** Answer a turn three times more in all columns, with other seeds. */
export async function moreSeeds(id: number, count = 3): Promise<void> {
  stop();
  await Promise.all(shown.value.map((column) => moreOf(id, column, count)));
}

async function moreOf(id: number, column: Column, count: number): Promise<void> {
  const turn = turns.value.find((each) => each.id === id);
  const before = turn?.answers[column];
  if (!turn || !before) return;
  const { steering, system } = before[0]!;
  const temperature = sampling.value.temperature || TEMPERATURE_AGAIN;
  const seed = sampling.value.seed + before.length;
  const blanks = Array.from({ length: count }, (_, n) => blankAnswer({ steering, system, temperature, seed: seed + n }));
  changeTurn(id, (each) => ({ ...each, answers: { ...each.answers, [column]: [...before, ...blanks] } }));
  await run({ id, column, first: before.length, count }, { messages: messagesOf(column, id, system), steering, temperature, seed });
}

/** Continue an answer that was lost, stopped or cut. */
export async function goOn(id: number, column: Column): Promise<void> {
  const turn = turns.value.find((each) => each.id === id);
  const answer = turn && pickedOf(turn, column);
  if (!turn || !answer) return;
  const soFar = textOf(answer);
  const { steering, system, temperature, seed } = answer;
  const messages = messagesOf(column, id, system);
  if (soFar) messages.push({ role: "assistant", content: soFar });
  await run({ id, column, first: turn.picked[column] ?? 0, count: 1 }, { messages, steering, temperature, seed });
}

export function stop(): void {
  series++;
  for (const controller of running.value) controller.abort();
}

/** Begin a new conversation. */
export function forget(): void {
  stop();
  turns.value = [];
  since.value = 0;
}

/** Answer again soon after a dial was turned, where that is wanted. */
export function answerAsTurned(): void {
  let timer: ReturnType<typeof setTimeout> | undefined;
  effect(() => {
    clearTimeout(timer);
    const written = text.value;
    if (live.value && stale.value && written) timer = setTimeout(again, TURNED_AFTER);
  });
}

function blankAnswer(of: Pick<Answer, "steering" | "system" | "temperature" | "seed">): Answer {
  return {
    ...of, status: "waiting", tokens: [], finish: null, receipt: null, beyondSafe: false, seconds: 0, retryAt: null, error: null,
  };
}

async function run(target: Target, asked: Asked): Promise<void> {
  const controller = new AbortController();
  running.value = [...running.value, controller];
  const begun = performance.now();
  change(target, { status: "waiting", error: null, retryAt: null, finish: null });
  try {
    await withRetries(target, asked, controller.signal);
    flush();
    change(target, { status: "done" });
    say(target);
  } catch (error) {
    flush();
    if (controller.signal.aborted) change(target, { status: "stopped" });
    else if (error instanceof ApiError) {
      const { what, fix, code } = error;
      change(target, { status: error.status === 0 ? "lost" : "failed", error: { what, fix, code } });
      announce(`${TITLES[target.column]}: ${what}`);
    } else throw error;
  } finally {
    change(target, { seconds: (performance.now() - begun) / 1000, retryAt: null });
    running.value = running.value.filter((each) => each !== controller);
  }
}

/** Stream answers; a queue that is full is asked again when it says. */
async function withRetries(target: Target, asked: Asked, signal: AbortSignal): Promise<void> {
  for (let tries = 1; ; tries++) {
    try {
      await stream(target, asked, signal);
      return;
    } catch (error) {
      if (!(error instanceof ApiError) || error.retryAfter === null || tries === TRIES) throw error;
      const { what, fix, code, retryAfter } = error;
      change(target, { retryAt: Date.now() + retryAfter * 1000, error: { what, fix, code } });
      await pause(retryAfter * 1000, signal);
      change(target, { retryAt: null, error: null });
    }
  }
}

function pause(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(new DOMException("stopped", "AbortError"));
    });
  });
}

function say(target: Target): void {
  const turn = turns.value.find((each) => each.id === target.id);
  const answer = turn?.answers[target.column]?.[target.first];
  if (!answer) return;
  const kl = answer.receipt?.kl;
  const spent = answer.steering === "none" ? "not steered" : kl == null ? "" : nats(kl);
  const parts = [`${countWords(textOf(answer))} words`, spent].filter(Boolean);
  announce(`${TITLES[target.column]}: answer finished, ${parts.join(", ")}`);
}

async function stream(target: Target, asked: Asked, signal: AbortSignal): Promise<void> {
  if (!info.value) await refresh(); // asked before the page knew the model
  const mix = turns.value.find((turn) => turn.id === target.id)?.dials ?? [];
  const options = { readings: readable(mix), maxTokens: sampling.value.maxTokens, count: target.count, signal };
  for await (const { index, token, ...part } of pieces(asked, options)) {
    const one = { ...target, first: target.first + index, count: 1 };
    if (token) arrived(one, token);
    else change(one, part);
  }
}

/** Return the vectors to read: of the colours and of the dials, as far as the server has them. */
function readable(mix: readonly Dial[]): string[] {
  const wanted = new Set([colourBy.value, ...mix.map((dial) => dial.name)]);
  return [...wanted].filter((name) => vectorOf.value.has(name)).slice(0, MAX_READINGS);
}

// Tokens that have come since the page was last changed. A change for each of them would make long answers slow.
const pending = new Map<string, { target: Target; tokens: Token[] }>();
let timer: ReturnType<typeof setTimeout> | undefined;

function arrived(target: Target, token: Token): void {
  const place = `${target.id}/${target.column}/${target.first}`;
  const waiting = pending.get(place) ?? { target, tokens: [] };
  waiting.tokens.push(token);
  pending.set(place, waiting);
  timer ??= setTimeout(flush, FLUSH_AFTER);
}

function flush(): void {
  clearTimeout(timer);
  timer = undefined;
  const waiting = [...pending.values()];
  pending.clear();
  for (const { target, tokens } of waiting) {
    changeAnswers(target, (answer) => ({ ...answer, status: "streaming", tokens: [...answer.tokens, ...tokens] }));
  }
}

function change(target: Target, part: Partial<Answer>): void {
  if (part.status !== undefined || part.receipt !== undefined) flush();
  changeAnswers(target, (answer) => ({ ...answer, ...part }));
}

function changeAnswers(target: Target, with_: (answer: Answer) => Answer): void {
  changeTurn(target.id, (turn) => {
    const list = turn.answers[target.column];
    if (!list) return turn; // forgotten since
    const changed = list.map((answer, n) => (n >= target.first && n < target.first + target.count ? with_(answer) : answer));
    return { ...turn, answers: { ...turn.answers, [target.column]: changed } };
  });
}
