// One question with its answers in the columns.
import { busy, moreSeeds, rerunFrom, TEMPERATURE_AGAIN } from "../state/answering";
import { isStale, pickedOf, sampling, shown, since, type Turn as Value, turns } from "../state/talk";
import { Column } from "./column";

export function Turn({ turn, number }: { readonly turn: Value; readonly number: number }) {
  const last = turn === turns.value.at(-1);
  const columns = shown.value;
  const stale = !last && columns.some((column) => isStale(turn, column));
  const forgotten = turn.id < since.value;
  return (
    <article class="turn" id={`turn-${turn.id}`} aria-label={`Turn ${number}`} tabIndex={-1}>
      {turn.example && <p class="hint">An example, which comes with trimtab: what this model has answered. Move the dial, then press <b>Answer</b>.</p>}
      <h2 class="asked"><span class="vh">You: </span>{turn.user}</h2>
      {forgotten && <p class="hint">The model is not given this turn any more.</p>}
      <div class="columns" style={{ "--columns": columns.length }}>
        {columns.map((column) => <Column key={column} turn={turn} column={column} />)}
      </div>
      <div class="row">
        {stale && <button type="button" onClick={() => void rerunFrom(turn.id)}>Answer again from here</button>}
        {last && !turn.example && !busy.value && columns.some((column) => pickedOf(turn, column)) && (
          <button type="button" onClick={() => void moreSeeds(turn.id)}>
            Again ×3<span class="vh"> with other seeds</span>
          </button>
        )}
        {last && !turn.example && sampling.value.temperature === 0 && <span class="hint">×3 uses other seeds at temperature {TEMPERATURE_AGAIN}</span>}
      </div>
    </article>
  );
}
