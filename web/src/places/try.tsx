export function Try() {
  return (
    <main id="main" tabIndex={-1}>
      <h1>Try</h1>
    </main>
  );
}
