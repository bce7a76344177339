// The mean reading of each turn's answers: a chart, and the same numbers as a table.
import { signed } from "../state/dials";
import { type Column, pickedOf, shown, TITLES, turns } from "../state/talk";

const WIDTH = 600;
const HEIGHT = 160;
const MOST = 3;

export function ReadingsByTurn({ name, onPick }: { readonly name: string; readonly onPick: (turn: number) => void }) {
  const all = turns.value;
  const columns = shown.value;
  const x = (n: number) => (all.length < 2 ? WIDTH / 2 : 20 + (n / (all.length - 1)) * (WIDTH - 40));
  const y = (z: number) => HEIGHT / 2 - (Math.min(Math.max(z, -MOST), MOST) / MOST) * (HEIGHT / 2 - 10);
  const lines = columns.map((column) => ({
    column,
    points: all.flatMap((turn, n) => {
      const z = meanReading(turn.id, column, name);
      return z === null ? [] : [{ n, z }];
    }),
  }));
  return (
    <section class="stack tight" aria-labelledby="by-turn">
      <h3 id="by-turn">Reading per turn</h3>
      <svg class="chart" viewBox={`0 0 ${WIDTH} ${HEIGHT}`} aria-hidden="true">
        <line class="axis" x1="0" x2={WIDTH} y1={y(0)} y2={y(0)} />
        {lines.map(({ column, points }) => (
          <g key={column} class={column}>
            <polyline points={points.map(({ n, z }) => `${x(n)},${y(z)}`).join(" ")} />
            {points.map(({ n, z }) => <circle key={n} cx={x(n)} cy={y(z)} r="5" onClick={() => onPick(all[n]!.id)} />)}
          </g>
        ))}
      </svg>
      <div class="scroll">
        <table class="data">
          <caption class="vh">Mean reading of {name} in standard deviations, by turn and column</caption>
          <thead>
            <tr>
              <th scope="col">Turn</th>
              {columns.map((column) => <th key={column} scope="col" class={`number key ${column}`}>{TITLES[column]}</th>)}
            </tr>
          </thead>
          <tbody>
            {all.map((turn, n) => (
              <tr key={turn.id}>
                <th scope="row"><button type="button" class="link" onClick={() => onPick(turn.id)}>{n + 1}: {turn.user.slice(0, 40)}</button></th>
                {columns.map((column) => {
                  const z = meanReading(turn.id, column, name);
                  return <td key={column} class="number">{z === null ? "–" : signed(z, 1)}</td>;
                })}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}

function meanReading(id: number, column: Column, name: string): number | null {
  const turn = turns.value.find((each) => each.id === id);
  const readings = (turn && pickedOf(turn, column)?.tokens.flatMap((token) => (name in token.readings ? [token.readings[name]!] : []))) || [];
  return readings.length ? readings.reduce((sum, z) => sum + z, 0) / readings.length : null;
}
