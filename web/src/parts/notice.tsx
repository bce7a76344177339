import type { ComponentChildren } from "preact";
import { ApiError } from "../api";

/** What went wrong and what to do about it, with buttons if there are any. */
export function Problem({ error, children }: { readonly error: unknown; readonly children?: ComponentChildren }) {
  const { what, fix } = asProblem(error);
  return (
    <div class="notice bad" role="alert">
      <p>
        <strong>{sentence(what)}</strong> {fix && sentence(fix)}
      </p>
      {children && <p class="row">{children}</p>}
    </div>
  );
}

function asProblem(error: unknown): { what: string; fix: string | null } {
  if (error instanceof ApiError) return error;
  if (typeof error === "object" && error && "what" in error) return error as { what: string; fix: string | null };
  return { what: error instanceof Error ? error.message : String(error), fix: null };
}

/** Return the server's words as a sentence. */
export function sentence(words: string): string {
  const text = words.trim();
  return text && text[0]!.toUpperCase() + text.slice(1) + (/[.!?…]$/.test(text) ? "" : ".");
}
