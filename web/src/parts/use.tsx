// Use in my app: the current steering as code, to copy.
import { signal } from "@preact/signals";
import { useEffect, useState } from "preact/hooks";
import { announce } from "../state/announce";
import { text } from "../state/dials";
import { codeOpen, presetOpen } from "../state/open";
import { findPresets, presets } from "../state/presets";
import { info } from "../state/server";
import { Dialog } from "./dialog";
import { type Snippet, snippets } from "./snippets";

const tab = signal("curl");

export function UseInApp() {
  return codeOpen.value ? <Opened /> : null;
}

function Opened() {
  useEffect(() => {
    if (!presetOpen.value) findPresets().catch(() => undefined); // one may have been saved meanwhile
  }, [presetOpen.value]);
  const same = presets.value.filter((each) => each.usable && each.preset?.["steering"] === text.value && !each.preset["system"] && !each.preset["rules"]);
  const saved = same.find((each) => !each.shipped) ?? same[0];
  const all = snippets({
    address: location.origin,
    model: info.value?.model.served_as ?? "smollm2",
    steering: text.value,
    preset: saved?.name ?? null,
  });
  const shown = all.find((each) => each.id === tab.value) ?? all[0]!;
  return (
    <Dialog title="Use in my app" wide onClose={() => (codeOpen.value = false)}>
      <div class="stack">
        <p>
          {text.value === "none" ? "No dial is on, so this code steers nothing." : <>The code steers with <code>{text.value}</code>, as the dials are now.</>}
        </p>
        <div role="tablist" aria-label="Client" onKeyDown={(event) => moveTab(event, all)}>
          {all.map((each) => (
            <button
              key={each.id}
              type="button"
              role="tab"
              id={`tab-${each.id}`}
              aria-selected={each === shown}
              aria-controls="snippet"
              tabIndex={each === shown ? 0 : -1}
              onClick={() => (tab.value = each.id)}
            >
              {each.title}
            </button>
          ))}
        </div>
        <div role="tabpanel" id="snippet" aria-labelledby={`tab-${shown.id}`} class="stack">
          <p class="hint">{shown.note}</p>
          {shown.code === null ? (
            <p><button type="button" class="go" onClick={() => (presetOpen.value = true)}>Save as preset</button></p>
          ) : (
            <Code key={shown.id} code={shown.code} title={shown.title} />
          )}
        </div>
      </div>
    </Dialog>
  );
}

/** Arrows, Home and End choose a tab, as in every list of tabs. */
function moveTab(event: KeyboardEvent, all: readonly Snippet[]): void {
  const at = all.findIndex((each) => each.id === tab.value);
  const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: all.length - 1 }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  const id = all[(to + all.length) % all.length]!.id;
  tab.value = id;
  document.getElementById(`tab-${id}`)?.focus();
}

function Code({ code, title }: { readonly code: string; readonly title: string }) {
  const [copied, setCopied] = useState<"" | "copied" | "failed">("");
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(code);
      setCopied("copied");
      announce(`Code for ${title} is copied`);
    } catch {
      setCopied("failed"); // pages without a secure context have no clipboard
    }
  };
  return (
    <>
      <pre tabIndex={0} aria-label={`Code for ${title}`}><code>{code}</code></pre>
      <p class="row">
        <button type="button" class="go" onClick={() => void copy()}>Copy</button>
        {copied === "copied" && <span>Copied</span>}
        {copied === "failed" && <span class="warn">▲ The browser does not allow it. Select the text and copy it.</span>}
      </p>
    </>
  );
}
