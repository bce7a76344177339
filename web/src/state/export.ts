// The conversation as a file.
import { info } from "./server";
import { mixText } from "./dials";
import { COLUMNS, pickedOf, sampling, textOf, TITLES, turns } from "./talk";

/** Return the conversation as Markdown, every column of every turn. */
export function asMarkdown(): string {
  const lines = [`# Conversation with ${info.value?.model.name ?? "a model"}`, ""];
  turns.value.forEach((turn, n) => {
    lines.push(`## Turn ${n + 1}`, "", `Dials: \`${mixText(turn.dials)}\``, "", ...quote(turn.user), "");
    for (const column of COLUMNS) {
      const answer = pickedOf(turn, column);
      if (!answer) continue;
      const kl = answer.receipt?.kl;
      const with_ = answer.system ?? (answer.steering === "none" ? "" : answer.steering);
      lines.push(`### ${TITLES[column]}${with_ && ` (${with_})`}`, "", textOf(answer) || "(no answer)", "");
      if (answer.receipt && answer.receipt.tokens > 0) {
        lines.push(`*${kl == null ? "" : `${kl.toFixed(2)} nat, `}${answer.receipt.layers.length} layers, ${answer.receipt.tokens} tokens steered*`, "");
      }
    }
  });
  return lines.join("\n");
}

function quote(text: string): string[] {
  return text.split("\n").map((line) => `> ${line}`);
}

export function asJson(): string {
  return JSON.stringify({ model: info.value?.model, version: info.value?.version, sampling: sampling.value, turns: turns.value }, null, 2);
}

/** Let the browser save a text as a file. */
export function save(name: string, type: string, text: string): void {
  const url = URL.createObjectURL(new Blob([text], { type }));
  const anchor = document.createElement("a");
  anchor.href = url;
  anchor.download = name;
  anchor.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
