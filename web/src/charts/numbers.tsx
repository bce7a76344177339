// Every chart has its numbers as a table, for those who cannot see it and those who want to be exact.

export function Numbers({ caption, head, rows }: {
  readonly caption: string;
  readonly head: readonly string[];
  readonly rows: readonly (readonly string[])[];
}) {
  return (
    <details class="numbers">
      <summary>The same as numbers</summary>
      <div class="scroll" tabIndex={0} role="region" aria-label={caption}>
        <table class="data">
          <caption class="vh">{caption}</caption>
          <thead>
            <tr>{head.map((each) => <th key={each} scope="col">{each}</th>)}</tr>
          </thead>
          <tbody>
            {rows.map(([first, ...others]) => (
              <tr key={first}>
                <th scope="row">{first}</th>
                {others.map((each, n) => <td key={n}>{each}</td>)}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </details>
  );
}
