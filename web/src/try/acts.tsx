// Where it acts: readings of one answer by layer and token, and of all answers by turn.
import { signal, useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { api, unwrap } from "../api";
import type { components } from "../api.gen";
import { Dialog } from "../parts/dialog";
import { Problem } from "../parts/notice";
import { signed } from "../state/dials";
import { type Column, colourBy, messagesOf, pickedOf, shown, textOf, TITLES, turns } from "../state/talk";
import { ReadingsByTurn } from "./readings-by-turn";

type Reading = components["schemas"]["ReadingReply"];

const STRONGEST = 3;
/** Turn that is shown; null while the drawer is closed. */
export const actsOf = signal<number | null>(null);

export function WhereItActs() {
  return actsOf.value === null ? null : <Drawer key={actsOf.value} id={actsOf.value} />;
}

function Drawer({ id }: { readonly id: number }) {
  const turn = turns.value.find((each) => each.id === id);
  const columns = shown.value.filter((column) => turn && pickedOf(turn, column));
  const column = useSignal<Column>(columns.includes("steered") ? "steered" : (columns[0] ?? "plain"));
  const reading = useSignal<Reading | null>(null);
  const error = useSignal<unknown>(null);
  const everything = useSignal(false);
  const name = colourBy.value;
  useEffect(() => {
    const answer = turn && pickedOf(turn, column.value);
    if (!answer || !name) return;
    const messages = [...messagesOf(column.value, id, answer.system), { role: "assistant" as const, content: textOf(answer) }];
    reading.value = error.value = null;
    api.POST("/v1/read", { body: { messages, vectors: [name], layers: true, raw: false } as never }).then(
      (reply) => (reading.value = unwrap(reply).data[0] ?? null),
    ).catch((problem: unknown) => (error.value = problem));
  }, [column.value, name]);
  const answer = turn && pickedOf(turn, column.value);
  return (
    <Dialog title={`Where it acts: ${name}`} wide onClose={() => (actsOf.value = null)}>
      <div class="stack">
        <div class="row">
          <label class="check">
            Answer
            <select value={column.value} onChange={(event) => (column.value = event.currentTarget.value as Column)}>
              {columns.map((each) => <option key={each} value={each}>{TITLES[each]}</option>)}
            </select>
          </label>
          <label class="check">
            Turn
            <select value={id} onChange={(event) => (actsOf.value = Number(event.currentTarget.value))}>
              {turns.value.map((each, n) => <option key={each.id} value={each.id}>{n + 1}</option>)}
            </select>
          </label>
          <label class="check">
            <input type="checkbox" checked={everything.value} onChange={(event) => (everything.value = event.currentTarget.checked)} />
            the question and signs too
          </label>
        </div>
        {error.value !== null && <Problem error={error.value} />}
        {!reading.value && error.value === null && <p class="soft">Reading…</p>}
        {reading.value && answer && <Grid reading={reading.value} text={textOf(answer)} everything={everything.value} />}
        <ReadingsByTurn name={name} onPick={(turnId) => { actsOf.value = null; document.getElementById(`turn-${turnId}`)?.scrollIntoView({ block: "start" }); }} />
      </div>
    </Dialog>
  );
}

/** z by layer and token, as a table in which the arrow keys move. */
function Grid({ reading, text, everything }: { readonly reading: Reading; readonly text: string; readonly everything: boolean }) {
  const table = useRef<HTMLTableElement>(null);
  const at = useSignal({ row: 0, column: 0 });
  const vector = reading.vectors[0];
  if (!vector?.z) return <p>This vector has no statistics of neutral texts, so its readings have no unit.</p>;
  const from = everything ? 0 : firstOf(reading.pieces, text);
  const tokens = reading.pieces.map((_, n) => n).filter((n) => n >= from && (everything || reading.words[n]));
  const layers = vector.layers.map((layer, row) => ({ layer, z: vector.z![row]! }));
  const reads = new Set(vector.reading_layers);
  const current = layers[at.value.row] && tokens[at.value.column] !== undefined ? at.value : { row: 0, column: 0 };
  const move = (row: number, column: number) => {
    at.value = { row: Math.min(Math.max(row, 0), layers.length - 1), column: Math.min(Math.max(column, 0), tokens.length - 1) };
    table.current?.querySelector<HTMLElement>(`[data-at="${at.value.row}/${at.value.column}"]`)?.focus();
  };
  const chosen = layers[current.row]!;
  const piece = reading.pieces[tokens[current.column]!];
  return (
    <>
      <p class="hint">
        Standard deviations from neutral texts, by layer and word, read without steering; colours end at ±{STRONGEST}. Layers with a dot are those that
        the reading is made of. Move with the arrow keys.
      </p>
      <div class="scroll grid-box">
        <table
          ref={table}
          class="grid"
          onKeyDown={(event) => {
            const { row, column } = current;
            if (event.key === "ArrowDown") move(row + 1, column);
            else if (event.key === "ArrowUp") move(row - 1, column);
            else if (event.key === "ArrowRight") move(row, column + 1);
            else if (event.key === "ArrowLeft") move(row, column - 1);
            else if (event.key === "Home") move(row, 0);
            else if (event.key === "End") move(row, tokens.length - 1);
            else return;
            event.preventDefault();
          }}
        >
          <caption class="vh">Readings by layer and word</caption>
          <thead>
            <tr>
              <th scope="col">layer</th>
              {tokens.map((n) => <th key={n} scope="col">{reading.pieces[n]!.trim() || JSON.stringify(reading.pieces[n])}</th>)}
            </tr>
          </thead>
          <tbody>
            {layers.map(({ layer, z }, row) => (
              <tr key={layer}>
                <th scope="row">{layer}{reads.has(layer) ? " •" : ""}</th>
                {tokens.map((n, column) => {
                  const value = z[n] ?? 0;
                  const here = row === current.row && column === current.column;
                  return (
                    <td
                      key={n}
                      tabIndex={here ? 0 : -1}
                      data-at={`${row}/${column}`}
                      class={value > 0 ? "towards-plus" : "towards-minus"}
                      style={{ "--a": Math.min(Math.abs(value) / STRONGEST, 1).toFixed(2) }}
                      onFocus={() => (at.value = { row, column })}
                    >
                      {signed(value, 1)}
                    </td>
                  );
                })}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      <p class="number" role="status">
        Layer {chosen.layer}, “{piece?.trim()}”: {signed(chosen.z[tokens[current.column]!] ?? 0, 2)} z
      </p>
    </>
  );
}

/** Return the number of the first token of a text that ends a chat. */
function firstOf(pieces: readonly string[], text: string): number {
  const whole = pieces.join("");
  const start = whole.lastIndexOf(text.trim());
  if (start < 0) return 0;
  let length = 0;
  return Math.max(0, pieces.findIndex((piece) => (length += piece.length) > start));
}
