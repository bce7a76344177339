// The form of Make: two poles, a file, or a system prompt; and what the server makes of it while it is written.
import { computed, effect, signal } from "@preact/signals";
import { api, ApiError, type LintFinding, type Preview, unwrap } from "../api";
import { kept } from "./kept";
import { info, vectorOf } from "./server";

export type Source = "poles" | "file" | "prompt";
export type Effort = "quick" | "default" | "thorough";
export const EFFORTS: readonly Effort[] = ["quick", "default", "thorough"];

export interface Form {
  readonly source: Source;
  readonly name: string; // empty: the one that is proposed
  readonly positive: readonly string[];
  readonly negative: readonly string[];
  readonly effort: Effort;
  readonly prompt: string;
}

export const form = kept<Form>(
  "make",
  { source: "poles", name: "", positive: [""], negative: [""], effort: "default", prompt: "" },
  isForm,
);
/** A file of the user: its name, and its text as a behaviour. Files are read again after a reload. */
export const file = signal<{ readonly name: string; readonly toml: string } | null>(null);

export function set(change: Partial<Form>): void {
  form.value = { ...form.value, ...change };
}

const filled = (poles: readonly string[]) => poles.map((pole) => pole.trim()).filter(Boolean);

/** Name of the vector: what was typed, else made from what it is about. */
export const name = computed(() => {
  const { source, name: typed, positive, prompt } = form.value;
  if (typed.trim()) return typed.trim();
  if (source === "file") return free(draft.value?.name ?? "");
  return free(slug(source === "poles" ? (filled(positive)[0] ?? "") : prompt));
});

/** Return a name, with a number behind it if a vector has it. */
function free(wanted: string): string {
  if (!vectorOf.value.has(wanted)) return wanted;
  for (let n = 2; ; n++) if (!vectorOf.value.has(`${wanted}-${n}`)) return `${wanted}-${n}`;
}

/** Return a name from the first words of a text. */
function slug(text: string): string {
  const words = text.normalize("NFKD").toLowerCase().replace(/[^a-z0-9 _-]/g, "").split(/\s+/);
  const telling = words.filter((word) => word && !["a", "an", "the", "you", "are", "always", "very"].includes(word));
  return telling.slice(0, 3).join("-").slice(0, 40);
}

interface Draft {
  readonly toml: string;
  readonly name: string | null;
  readonly ok: boolean;
  readonly findings: readonly LintFinding[];
  readonly preview: Preview | null;
}

/** The behaviour as the server reads it; null while there is nothing to read. */
export const draft = signal<Draft | null>(null);
/** Why there is no draft yet. */
export const draftProblem = signal<ApiError | null>(null);

let asked = 0;
effect(() => {
  const { source, positive, negative } = form.value;
  const given = file.value;
  const written = name.peek() || "mine";
  const number = ++asked;
  const poles = { positive: filled(positive), negative: filled(negative) };
  if (source === "prompt" || (source === "file" ? !given : !poles.positive.length || !poles.negative.length)) {
    draft.value = null;
    draftProblem.value = null;
    return;
  }
  setTimeout(() => {
    if (number !== asked) return; // typed on since
    read(source === "file" ? Promise.resolve(given!.toml) : write(written, poles)).then(
      (found) => {
        if (number === asked) [draft.value, draftProblem.value] = [found, null];
      },
      (error: unknown) => {
        if (number === asked && error instanceof ApiError) [draft.value, draftProblem.value] = [null, error];
      },
    );
  }, 350);
});

/** Return the behaviour to train, under the name that its vector gets. */
export async function readyToml(): Promise<string> {
  const { source, positive, negative } = form.value;
  if (source === "poles") return write(name.value, { positive: filled(positive), negative: filled(negative) });
  return draft.value?.toml ?? "";
}

async function write(called: string, poles: { positive: string[]; negative: string[] }): Promise<string> {
  const name = /^[a-z0-9][a-z0-9_-]*$/.test(called) ? called : slug(called) || "mine";
  return unwrap(await api.POST("/v1/behaviours/draft", { body: { name, ...poles } })).toml;
}

async function read(text: Promise<string>): Promise<Draft> {
  const toml = await text;
  const { ok, name: own, findings } = unwrap(await api.POST("/v1/behaviours/lint", { body: { toml } }));
  // Words come at once, pairs need the tokenizer: what is wrong with the words is no reason to hide the pairs.
  const preview = ok ? unwrap(await api.POST("/v1/pairs/preview", { body: { toml, count: 3 } })) : null;
  return { toml, name: own, ok, findings, preview };
}

/** Return about how long a job takes on this server, in seconds. */
export function expected(kind: string): number | null {
  return info.value?.expected_seconds[kind] ?? null;
}

function isForm(value: unknown): value is Form {
  const given = value as Form | null;
  return (
    typeof given?.name === "string" &&
    ["poles", "file", "prompt"].includes(given.source) &&
    EFFORTS.includes(given.effort) &&
    typeof given.prompt === "string" &&
    [given.positive, given.negative].every((side) => Array.isArray(side) && side.every((way) => typeof way === "string"))
  );
}
