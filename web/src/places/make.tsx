export function Make() {
  return (
    <main id="main" tabIndex={-1}>
      <h1>Make</h1>
    </main>
  );
}
