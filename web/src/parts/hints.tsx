import type { LintFinding } from "../api";
import { draft } from "../state/make";

const WORDS: Readonly<Record<LintFinding["level"], string>> = { error: "Mistake", warning: "Better", note: "Note" };

/** What may be wrong with the words of a behaviour: hints, of which only mistakes keep it from being trained. */
export function Hints() {
  const findings = unlike(draft.value?.findings ?? []);
  return (
    <ul class="hints" aria-label="Hints" aria-live="polite">
      {findings.map((finding, n) => (
        <li key={n}>
          <span class={finding.level === "note" ? "soft" : "warn"}>{finding.level === "note" ? "·" : "▲"} {WORDS[finding.level]}</span>{" "}
          {place(finding.where)}: {finding.problem}. {finding.fix && <span class="soft">{capital(finding.fix)}.</span>}
        </li>
      ))}
    </ul>
  );
}

/** Return the findings without repetitions: of one way of saying a pole several are made, with the same mistakes. */
function unlike(findings: readonly LintFinding[]): LintFinding[] {
  const kind = ({ level, where, fix }: LintFinding) => `${level} ${where.replace(/\[\d+\]/, "")} ${fix}`;
  return [...new Map([...findings].reverse().map((each) => [kind(each), each])).values()].reverse();
}

/** Return the place of a finding as it is on the page. */
function place(where: string): string {
  const match = /^(positive|negative)\.personas\[(\d+)\]$/.exec(where);
  if (!match) return where;
  return `${match[1] === "positive" ? "Towards (+)" : "Against (−)"}, way ${Number(match[2]) + 1}`;
}

function capital(text: string): string {
  return text[0]!.toUpperCase() + text.slice(1);
}
