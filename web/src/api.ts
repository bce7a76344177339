// The server's routes, typed by its OpenAPI document. Nothing else in the page talks to the network.
import { signal } from "@preact/signals";
import { EventSourceParserStream } from "eventsource-parser/stream";
import type { Client } from "openapi-fetch";
import type { Readable } from "openapi-typescript-helpers";
import type { components, paths } from "./api.gen";

type Schemas = { [Name in keyof components["schemas"]]: Readable<components["schemas"][Name]> };
export type Info = Schemas["InfoReply"];
export type Vector = Schemas["VectorReply"];
export type VectorDetails = Schemas["VectorDetails"];
export type Check = Schemas["CheckReply"];
export type Card = Schemas["Card"];
export type Interval = Schemas["Interval"];
export type WrittenEffect = Schemas["WrittenEffect"];
export type Behaviour = Schemas["BehaviourReply"];
export type Preset = Schemas["PresetReply"];
export type LintFinding = Schemas["FindingReply"];
export type Preview = Schemas["PreviewReply"];
export type Job = Schemas["JobReply"];
export type Finding = Job["findings"] extends (infer Each)[] ? Each : never;
export type Swept = Schemas["StrengthReply"];
export type Safe = Schemas["SafeReply"];
export type Receipt = Schemas["Receipt"];

/** What went wrong, where there is one, what to do about it, and after how many seconds to try again. */
export class ApiError extends Error {
  constructor(
    readonly what: string,
    readonly fix: string | null,
    readonly code: string,
    readonly status: number,
    readonly retryAfter: number | null = null,
  ) {
    super(what);
  }
}

/** Key for servers that need one; kept in memory only. */
export const key = signal("");
/** True while the server does not answer at all. */
export const offline = signal(false);

async function send(request: Request): Promise<Response> {
  if (key.value) request.headers.set("authorization", `Bearer ${key.value}`);
  try {
    const answer = await fetch(request);
    offline.value = false;
    return answer;
  } catch (error) {
    if (request.signal.aborted) throw error;
    offline.value = true;
    throw new ApiError("the server does not answer", "start it again: trimtab play", "offline", 0);
  }
}

interface Fields {
  readonly params?: { readonly path?: Readonly<Record<string, string>>; readonly query?: Readonly<Record<string, string>> };
  readonly body?: unknown;
}

/** Send a request with JSON in it. Of openapi-fetch only the types are used: its code would be a twentieth of the page. */
function method(name: string) {
  return async (path: string, { params = {}, body }: Fields = {}) => {
    const filled = path.replace(/\{(\w+)\}/g, (_, field: string) => encodeURIComponent(params.path![field]!));
    const url = new URL(filled, location.origin);
    for (const [field, value] of Object.entries(params.query ?? {})) url.searchParams.set(field, value);
    const sent = body === undefined ? {} : { body: JSON.stringify(body), headers: { "content-type": "application/json" } };
    const response = await send(new Request(url, { method: name, ...sent }));
    const content: unknown = await response.json().catch(() => null);
    return response.ok ? { data: content, response } : { error: content, response };
  };
}

const METHODS = ["GET", "POST", "PUT", "DELETE"] as const;
export const api = Object.fromEntries(METHODS.map((name) => [name, method(name)])) as unknown as Pick<Client<paths>, (typeof METHODS)[number]>;

/** Return the data of an answer, or raise what the server says is wrong. */
export function unwrap<T>(answer: { data?: T; error?: unknown; response: Response }): T {
  if (answer.response.ok) return answer.data as T;
  throw asApiError(answer.error, answer.response);
}

function asApiError(body: unknown, response: Response): ApiError {
  const { error } = (body ?? {}) as { error?: { message?: string; what?: string; fix?: string; code?: string } };
  const retry = Number(response.headers.get("retry-after"));
  return new ApiError(
    error?.what ?? error?.message ?? `the server answers ${response.status}`,
    error?.fix ?? null,
    error?.code ?? "unknown",
    response.status,
    Number.isFinite(retry) && retry > 0 ? retry : null,
  );
}

/** Return the content of a JSON file that comes with the page. */
export async function shipped<T>(name: string): Promise<T> {
  const response = await send(new Request(new URL(name, document.baseURI)));
  if (!response.ok) throw asApiError(null, response);
  return (await response.json()) as T;
}

export interface ServerEvent {
  id: string | undefined;
  name: string | undefined;
  data: string;
}

/** Yield the server-sent events of a request, until they end or the signal aborts. */
export async function* events(
  path: string,
  options: { body?: unknown; headers?: Record<string, string>; signal: AbortSignal },
): AsyncGenerator<ServerEvent> {
  const headers: Record<string, string> = { accept: "text/event-stream", ...options.headers };
  if (options.body !== undefined) headers["content-type"] = "application/json";
  const request = new Request(new URL(path, location.origin), {
    method: options.body === undefined ? "GET" : "POST",
    body: options.body === undefined ? null : JSON.stringify(options.body),
    headers,
    signal: options.signal,
  });
  const response = await send(request);
  if (!response.ok) throw asApiError(await response.json().catch(() => null), response);
  const parsed = response.body!.pipeThrough(new TextDecoderStream()).pipeThrough(new EventSourceParserStream());
  const reader = parsed.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read().catch((error: unknown) => {
        if (options.signal.aborted) throw error;
        offline.value = true;
        throw new ApiError("the connection was lost", "the text so far is kept", "lost", 0);
      });
      if (done) return;
      yield { id: value.id, name: value.event, data: value.data };
    }
  } finally {
    reader.cancel().catch(() => undefined); // which tells the server that nobody listens any more
  }
}

/** Upload a file as a bare body; `onShare` is told how much of it has left. */
export function upload(path: string, file: Blob, onShare: (share: number) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest(); // fetch tells nothing of an upload's progress
    request.open("PUT", new URL(path, location.origin));
    request.setRequestHeader("content-type", "application/octet-stream");
    if (key.value) request.setRequestHeader("authorization", `Bearer ${key.value}`);
    request.upload.onprogress = (event) => onShare(event.lengthComputable ? event.loaded / event.total : 0);
    request.onerror = () => reject(new ApiError("the upload broke off", "try again", "offline", 0));
    request.onload = () => {
      if (request.status < 300) resolve();
      else reject(asApiError(asJson(request.responseText), new Response(null, { status: request.status })));
    };
    request.send(file);
  });
}

function asJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** Save a file of the server where the browser saves files. */
export async function saveFile(path: string, name: string): Promise<void> {
  const response = await send(new Request(new URL(path, location.origin)));
  if (!response.ok) throw asApiError(await response.json().catch(() => null), response);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await response.blob());
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
}
