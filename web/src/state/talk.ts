// The conversation: turns, each answered in several columns. A column is a conversation of its own.
import { batch, computed, signal } from "@preact/signals";
import { ApiError, events, type Receipt } from "../api";
import { type Dial, dials, mixText } from "./dials";
import { kept } from "./kept";
import { info } from "./server";

export const COLUMNS = ["plain", "steered", "opposite", "prompt"] as const;
export type Column = (typeof COLUMNS)[number];

/** One token of an answer: its text, its readings by vector (z), its log-probability, and what else it could have been. */
export interface Token {
  readonly text: string;
  readonly readings: Readonly<Record<string, number>>;
  readonly logprob: number | null;
  readonly others: readonly { readonly text: string; readonly logprob: number }[];
}

export type Status = "waiting" | "streaming" | "done" | "stopped" | "lost" | "failed";

export interface Answer {
  readonly status: Status;
  readonly steering: string; // text form
  readonly system: string | null;
  readonly tokens: readonly Token[];
  readonly receipt: Receipt | null;
  readonly beyondSafe: boolean;
  readonly seconds: number;
  readonly error: { what: string; fix: string | null; code: string; retryAfter: number | null } | null;
}

export interface Turn {
  readonly id: number;
  readonly user: string;
  readonly dials: readonly Dial[];
  readonly answers: Readonly<Partial<Record<Column, Answer>>>;
}

export interface Sampling {
  readonly maxTokens: number;
  readonly temperature: number;
  readonly seed: number;
}

export const turns = kept<readonly Turn[]>("turns", [], isTurns);
export const shown = kept<readonly Column[]>("columns", ["plain", "steered"], isColumns);
export const sampling = kept<Sampling>("sampling", { maxTokens: 64, temperature: 0, seed: 0 }, isSampling);
/** System prompt of the column that has one instead of a steering. */
export const systemPrompt = kept<string>("system", "You are extremely happy.", isString);
/** Vector whose readings colour the words; empty for none. */
export const colourBy = kept<string>("colour", "happy", isString);

const running = signal<readonly AbortController[]>([]);
export const busy = computed(() => running.value.length > 0);

/** Return an answer's text. */
export function textOf(answer: Answer): string {
  return answer.tokens.map((token) => token.text).join("");
}

/** Ask a question: one request for each column, which the server answers together. */
export function ask(user: string): void {
  const id = (turns.value.at(-1)?.id ?? 0) + 1;
  turns.value = [...turns.value, { id, user, dials: dials.value, answers: {} }];
  answer(id, shown.value);
}

/** Answer a turn again with dials as they are now or as given; later turns are dropped, as they follow from it. */
export function again(id: number, mix: readonly Dial[] = dials.value): void {
  stop();
  const at = turns.value.findIndex((turn) => turn.id === id);
  turns.value = turns.value.slice(0, at + 1).map((turn) => (turn.id === id ? { ...turn, dials: mix, answers: {} } : turn));
  answer(id, shown.value);
}

/** Answer a turn in columns that lack an answer or whose answer was lost. */
export function answer(id: number, columns: readonly Column[]): void {
  const turn = turns.value.find((each) => each.id === id);
  if (turn) for (const column of columns) void run(turn, column);
}

export function stop(): void {
  for (const controller of running.value) controller.abort();
}

export function forget(): void {
  stop();
  turns.value = [];
}

/** Return the steering and the system prompt of a column. */
export function asksFor(column: Column, mix: readonly Dial[]): { steering: string; system: string | null } {
  if (column === "prompt") return { steering: "none", system: systemPrompt.value };
  const factor = { plain: 0, steered: 1, opposite: -1 }[column];
  return { steering: factor === 0 ? "none" : mixText(mix, factor), system: null };
}

interface Message {
  readonly role: "system" | "user" | "assistant";
  readonly content: string;
}

/** Return the chat that a column has come to at a turn. */
export function messagesOf(column: Column, id: number, system: string | null): Message[] {
  const messages: Message[] = system ? [{ role: "system", content: system }] : [];
  for (const turn of turns.value) {
    messages.push({ role: "user", content: turn.user });
    if (turn.id === id) break;
    const given = turn.answers[column] ?? turn.answers.plain;
    if (given) messages.push({ role: "assistant", content: textOf(given) });
  }
  return messages;
}

async function run(turn: Turn, column: Column): Promise<void> {
  const { steering, system } = asksFor(column, turn.dials);
  const controller = new AbortController();
  running.value = [...running.value, controller];
  const begun = performance.now();
  set(turn.id, column, { status: "waiting", steering, system, tokens: [], receipt: null, beyondSafe: false, seconds: 0, error: null });
  try {
    await stream(turn.id, column, { steering, system, signal: controller.signal });
    change(turn.id, column, { status: "done" });
  } catch (error) {
    if (controller.signal.aborted) change(turn.id, column, { status: "stopped" });
    else if (error instanceof ApiError) {
      const { what, fix, code, retryAfter } = error;
      change(turn.id, column, { status: error.status === 0 ? "lost" : "failed", error: { what, fix, code, retryAfter } });
    } else throw error;
  } finally {
    change(turn.id, column, { seconds: (performance.now() - begun) / 1000 });
    running.value = running.value.filter((each) => each !== controller);
  }
}

/** Chunk of a streamed chat completion, as far as the page reads it. */
interface Chunk {
  readonly choices: readonly {
    readonly delta: { readonly content?: string | null; readonly reasoning?: string };
    readonly logprobs: {
      readonly content: readonly { logprob: number; top_logprobs: readonly { token: string; logprob: number }[] }[];
    } | null;
  }[];
  readonly trimtab?: {
    readonly readings?: Readonly<Record<string, readonly number[]>>;
    readonly answers?: readonly { receipt: Receipt; beyond_safe: boolean }[];
  };
}

async function stream(
  id: number,
  column: Column,
  asked: { steering: string; system: string | null; signal: AbortSignal },
): Promise<void> {
  const body = {
    model: info.value?.model.served_as,
    messages: messagesOf(column, id, asked.system),
    steering: asked.steering,
    readings: colourBy.value ? [colourBy.value] : [],
    kl: true,
    logprobs: true,
    top_logprobs: 5,
    max_tokens: sampling.value.maxTokens,
    temperature: sampling.value.temperature,
    seed: sampling.value.seed,
    stream: true,
  };
  for await (const event of events("/v1/chat/completions", { body, signal: asked.signal })) {
    if (event.data === "[DONE]") return;
    const chunk = JSON.parse(event.data) as Chunk & { error?: { message: string; fix?: string; code?: string } };
    if (chunk.error) throw new ApiError(chunk.error.message, chunk.error.fix ?? null, chunk.error.code ?? "unknown", 500);
    takeChunk(id, column, chunk);
  }
  throw new ApiError("the answer broke off", "answer again", "lost", 0);
}

function takeChunk(id: number, column: Column, chunk: Chunk): void {
  const summary = chunk.trimtab?.answers?.[0];
  if (summary) change(id, column, { receipt: summary.receipt, beyondSafe: summary.beyond_safe });
  const choice = chunk.choices[0];
  const piece = choice?.delta.content;
  const logprob = choice?.logprobs?.content[0];
  if (!piece && !logprob) return;
  const readings = Object.fromEntries(Object.entries(chunk.trimtab?.readings ?? {}).map(([name, z]) => [name, z[0] ?? 0]));
  const token: Token = {
    text: piece ?? "",
    readings,
    logprob: logprob?.logprob ?? null,
    others: (logprob?.top_logprobs ?? []).map((other) => ({ text: other.token, logprob: other.logprob })),
  };
  const tokens = current(id, column)?.tokens ?? [];
  change(id, column, { status: "streaming", tokens: [...tokens, token] });
}

function current(id: number, column: Column): Answer | undefined {
  return turns.value.find((turn) => turn.id === id)?.answers[column];
}

function set(id: number, column: Column, answer: Answer): void {
  turns.value = turns.value.map((turn) => (turn.id === id ? { ...turn, answers: { ...turn.answers, [column]: answer } } : turn));
}

function change(id: number, column: Column, part: Partial<Answer>): void {
  const before = current(id, column); // gone once its turn was forgotten
  if (before) batch(() => set(id, column, { ...before, ...part }));
}

function isString(value: unknown): value is string {
  return typeof value === "string";
}

function isColumns(value: unknown): value is readonly Column[] {
  return Array.isArray(value) && value.every((column) => COLUMNS.includes(column as Column));
}

function isSampling(value: unknown): value is Sampling {
  const given = value as Sampling | null;
  return typeof given?.maxTokens === "number" && typeof given.temperature === "number" && typeof given.seed === "number";
}

function isTurns(value: unknown): value is readonly Turn[] {
  return Array.isArray(value) && value.every((turn) => typeof turn?.user === "string" && typeof turn.answers === "object");
}
