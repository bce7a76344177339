// Dials by turn: what each turn was asked with, and the way to ask it with something else.
import { dials, MAX_STRENGTH, setStrength, STEP } from "../state/dials";
import { rerunFrom } from "../state/answering";
import { isStale, shown, type Turn, turnOf, turns } from "../state/talk";

export function ByTurn() {
  const all = turns.value;
  if (all.length < 2) return null;
  const names = [...new Set(all.flatMap((turn) => turn.dials).concat(dials.value).filter((dial) => dial.text === undefined).map((dial) => dial.name))];
  const changed = all.findIndex((turn) => shown.value.some((column) => isStale(turn, column)));
  return (
    <details class="by-turn">
      <summary>Dials by turn</summary>
      <div class="scroll">
        <table>
          <thead>
            <tr>
              <td />
              {all.map((turn, n) => <th key={turn.id} scope="col" class="small">turn {n + 1}</th>)}
            </tr>
          </thead>
          <tbody>
            {names.map((name) => (
              <tr key={name}>
                <th scope="row" class="small">{name}</th>
                {all.map((turn, n) => <td key={turn.id}><Cell turn={turn} name={name} number={n + 1} last={n === all.length - 1} /></td>)}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {changed >= 0 && (
        <button type="button" onClick={() => void rerun(all[changed]!, changed === all.length - 1)}>Answer again from turn {changed + 1}</button>
      )}
    </details>
  );
}

async function rerun(turn: Turn, last: boolean): Promise<void> {
  const newest = turns.value.at(-1)!;
  if (last || turn !== newest) turns.value = turns.value.map((each) => (each === newest ? { ...each, dials: dials.value } : each));
  await rerunFrom(turn.id);
}

function Cell({ turn, name, number, last }: { readonly turn: Turn; readonly name: string; readonly number: number; readonly last: boolean }) {
  const dial = (last ? dials.value : turn.dials).find((each) => each.name === name && each.text === undefined);
  const strength = dial?.on ? dial.strength : 0;
  return (
    <input
      type="number"
      class={strength > 0 ? "cell towards-plus" : strength < 0 ? "cell towards-minus" : "cell"}
      style={{ "--a": Math.min(Math.abs(strength), 1) }}
      min={-MAX_STRENGTH}
      max={MAX_STRENGTH}
      step={STEP}
      value={strength}
      aria-label={`${name} at turn ${number}`}
      onChange={(event) => {
        const value = event.currentTarget.valueAsNumber;
        if (!Number.isFinite(value)) return;
        if (last) setStrength(name, value);
        else turnOf(turn.id, name, value);
      }}
    />
  );
}
