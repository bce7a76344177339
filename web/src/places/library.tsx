export function Library() {
  return (
    <main id="main" tabIndex={-1}>
      <h1>Library</h1>
    </main>
  );
}
