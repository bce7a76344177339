// The shell: places, the model, and what is announced.
import { signal } from "@preact/signals";
import { key, offline } from "./api";
import { Breaks } from "./parts/breaks";
import { Keys } from "./parts/keys";
import { SavePreset } from "./parts/save-preset";
import { UseInApp } from "./parts/use";
import { Library } from "./places/library";
import { Make } from "./places/make";
import { Try } from "./places/try";
import { announced } from "./state/announce";
import { keysOpen } from "./state/open";
import { info, needsKey, refresh } from "./state/server";

const PLACES = { try: { title: "Try", Page: Try }, make: { title: "Make", Page: Make }, library: { title: "Library", Page: Library } };
type Place = keyof typeof PLACES;

const place = signal<Place>(named(location.hash));
addEventListener("hashchange", () => (place.value = named(location.hash)));

function named(hash: string): Place {
  const name = hash.replace(/^#\/?/, "").split(/[/?]/)[0] as Place;
  return name in PLACES ? name : "try";
}

export function App() {
  const { Page } = PLACES[place.value];
  return (
    <>
      <a class="skip" href="#main" onClick={(event) => { event.preventDefault(); document.getElementById("main")?.focus(); }}>
        Skip to the content
      </a>
      <header class="top">
        <span class="brand">trimtab</span>
        <nav aria-label="Places">
          {(Object.keys(PLACES) as Place[]).map((name) => (
            <a key={name} href={`#/${name}`} aria-current={name === place.value ? "page" : undefined}>
              {PLACES[name].title}
            </a>
          ))}
        </nav>
        <span class="model">{model()}</span>
        <button type="button" class="quiet icon keys" aria-label="Keys" title="Keys" onClick={() => (keysOpen.value = true)}>?</button>
      </header>
      {offline.value && (
        <div class="banner" role="alert">
          <span>The server does not answer. Your text is kept.</span>
          <button type="button" onClick={() => void refresh()}>Try again</button>
        </div>
      )}
      {needsKey.value && <KeyField />}
      <Page />
      <Breaks />
      <UseInApp />
      <SavePreset />
      <Keys />
      <p class="vh" role="status" aria-live="polite">{announced.value}</p>
    </>
  );
}

function model(): string {
  const about = info.value?.model;
  if (!about) return offline.value || needsKey.value ? "" : "Waiting for the model…";
  return [about.name.split("/").at(-1), about.device?.toUpperCase(), `${about.layers} layers`].filter(Boolean).join(" · ");
}

function KeyField() {
  return (
    <form class="banner" onSubmit={(event) => { event.preventDefault(); void refresh(); }}>
      <label for="key">This server needs a key. It is kept until you close the page.</label>
      <input id="key" type="password" autocomplete="off" value={key.value} onInput={(event) => (key.value = event.currentTarget.value)} />
      <button class="go">Use it</button>
    </form>
  );
}
