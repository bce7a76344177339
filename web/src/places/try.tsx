import "../try/try.css";
// Try: one question, answered as it is and steered, and the dials between them.
import { useEffect } from "preact/hooks";
import { again, answerAsTurned, busy, stop } from "../state/answering";
import { placeKeys } from "../state/keys";
import { followAddress } from "../state/link";
import { turns } from "../state/talk";
import { WhereItActs } from "../try/acts";
import { AddVector } from "../try/add-vector";
import { ByTurn } from "../try/by-turn";
import { Composer } from "../try/composer";
import { closeSheet, Rail } from "../try/rail";
import { Toolbar } from "../try/toolbar";
import { Turn } from "../try/turn";

/** Move the focus to the dial before or behind the one that has it. */
function moveToDial(by: number): void {
  const ranges = [...document.querySelectorAll<HTMLInputElement>("[data-range]")];
  const at = ranges.findIndex((range) => range.closest("section")?.contains(document.activeElement));
  if (ranges.length) ranges[(at < 0 ? (by > 0 ? 0 : ranges.length - 1) : at + by + ranges.length) % ranges.length]!.focus();
}

const KEYS = [
  { key: "r", does: "Answer the last question again, with the dials as they are", run: again },
  { key: "[", does: "Previous dial", run: () => moveToDial(-1) },
  { key: "]", does: "Next dial", run: () => moveToDial(1) },
  {
    key: "Escape",
    does: "Stop the answers",
    run: () => {
      if (busy.value) stop();
      else closeSheet();
    },
  },
];

followAddress();
answerAsTurned();

export function Try() {
  useEffect(() => {
    placeKeys.value = KEYS;
    return () => (placeKeys.value = []);
  }, []);
  return (
    <div class="try">
      <Rail />
      <main id="main" tabIndex={-1} aria-label="Answers">
        <h1 class="vh">Try</h1>
        <Toolbar />
        <ByTurn />
        {turns.value.map((turn, n) => <Turn key={turn.id} turn={turn} number={n + 1} />)}
        <Composer />
      </main>
      <AddVector />
      <WhereItActs />
    </div>
  );
}
