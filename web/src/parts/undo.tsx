import { useState } from "preact/hooks";
import { deleted, restoreVector } from "../state/library";
import { Problem } from "./notice";

/** What was deleted last, with the button that brings it back. */
export function Undo() {
  const [error, setError] = useState<unknown>(null);
  if (!deleted.value) return null;
  return (
    <div class="stack tight">
      <p class="notice row">
        <span><strong>{deleted.value.name}</strong> is deleted.</span>
        <button type="button" onClick={() => void restoreVector().catch(setError)}>Undo</button>
        <button type="button" class="quiet" onClick={() => (deleted.value = null)}>Dismiss</button>
      </p>
      {error !== null && <Problem error={error} />}
    </div>
  );
}
