// The page's state as a link: dials, columns and the question, in the fragment, which no server sees.
import { effect } from "@preact/signals";
import { take, text } from "./dials";
import { info } from "./server";
import { COLUMNS, type Column, draft, shown, turns } from "./talk";

const PLACE = "try";

/** Return a link to the dials, columns and question as they are now. */
export function link(): string {
  const question = draft.value || (turns.value.at(-1)?.user ?? "");
  const fields = new URLSearchParams({ steering: text.value, columns: shown.value.join(","), ask: question });
  return `${location.origin}${location.pathname}#${PLACE}?${fields}`;
}

/** Take what the address says, and keep the address up to date while the place is shown. */
export function followAddress(): void {
  const given = takeAddress();
  effect(() => {
    const address = link();
    if (!info.value || given.waiting) return;
    if (/^#?$|^#\/?try/.test(location.hash)) history.replaceState(null, "", address);
  });
  addEventListener("hashchange", takeAddress);
}

function takeAddress(): { waiting: boolean } {
  const state = { waiting: false };
  const [place, query] = location.hash.replace(/^#\/?/, "").split(/\?(.*)/s);
  if (place !== PLACE || !query) return state;
  const fields = new URLSearchParams(query);
  const columns = fields.get("columns")?.split(",").filter((name): name is Column => COLUMNS.includes(name as Column));
  if (columns?.length) shown.value = COLUMNS.filter((column) => columns.includes(column));
  const question = fields.get("ask");
  if (question && question !== turns.value.at(-1)?.user) draft.value = question;
  const steering = fields.get("steering");
  if (steering && steering !== text.value) {
    state.waiting = true;
    take(steering).catch(() => undefined).finally(() => (state.waiting = false));
  }
  return state;
}
