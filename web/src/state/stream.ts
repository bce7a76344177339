// A streamed chat completion, piece by piece.
import { ApiError, events, type Receipt } from "../api";
import { info } from "./server";
import type { Message, Token } from "./talk";

export interface Asked {
  readonly messages: readonly Message[];
  readonly steering: string;
  readonly temperature: number;
  readonly seed: number;
}

/** What has come of one of the answers: a token, or what is known at its end. */
export interface Piece {
  readonly index: number;
  readonly token?: Token;
  readonly finish?: string;
  readonly receipt?: Receipt;
  readonly beyondSafe?: boolean;
}

/** Chunk, as far as the page reads it. */
interface Chunk {
  readonly choices: readonly {
    readonly index: number;
    readonly delta: { readonly content?: string | null; readonly reasoning?: string };
    readonly finish_reason: string | null;
    readonly logprobs: {
      readonly content: readonly { logprob: number; top_logprobs: readonly { token: string; logprob: number }[] }[];
    } | null;
  }[];
  readonly trimtab?: {
    readonly readings?: Readonly<Record<string, readonly number[]>>;
    readonly answers?: readonly { index: number; receipt: Receipt; beyond_safe: boolean }[];
  };
  readonly error?: { message: string; what?: string; fix?: string | null; code?: string };
}

/** Yield the pieces of a request's answers; raises where they end too early. */
export async function* pieces(
  asked: Asked,
  options: { readonly readings: readonly string[]; readonly maxTokens: number; readonly count: number; readonly signal: AbortSignal },
): AsyncGenerator<Piece> {
  const body = {
    ...asked,
    model: info.value?.model.served_as,
    readings: options.readings,
    kl: asked.steering !== "none", // which takes a second pass over every token
    logprobs: true,
    top_logprobs: 5,
    max_tokens: options.maxTokens,
    n: options.count,
    stream: true,
  };
  for await (const event of events("/v1/chat/completions", { body, signal: options.signal })) {
    if (event.data === "[DONE]") return;
    const chunk = JSON.parse(event.data) as Chunk;
    const { error } = chunk;
    if (error) throw new ApiError(error.what ?? error.message, error.fix ?? null, error.code ?? "unknown", 500);
    yield* piecesOf(chunk);
  }
  throw new ApiError("the answer broke off", "the text so far is kept", "lost", 0);
}

function* piecesOf(chunk: Chunk): Generator<Piece> {
  for (const { index, receipt, beyond_safe } of chunk.trimtab?.answers ?? []) yield { index, receipt, beyondSafe: beyond_safe };
  for (const { index, delta, finish_reason: finish, logprobs } of chunk.choices) {
    if (finish) yield { index, finish };
    const logprob = logprobs?.content[0];
    if (!delta.content && !delta.reasoning && !logprob) continue;
    const readings = Object.entries(chunk.trimtab?.readings ?? {}).map(([name, z]) => [name, z[0] ?? 0] as const);
    const token: Token = {
      text: delta.content || delta.reasoning || "",
      readings: Object.fromEntries(readings),
      logprob: logprob?.logprob ?? null,
      others: (logprob?.top_logprobs ?? []).map((other) => ({ text: other.token, logprob: other.logprob })),
      ...(delta.reasoning ? { thought: true } : {}),
    };
    yield { index, token };
  }
}
