// The shell: places, the model, and what is announced.
import { signal } from "@preact/signals";
import { offline } from "./api";
import { Library } from "./places/library";
import { Make } from "./places/make";
import { Try } from "./places/try";
import { info } from "./state/server";

const PLACES = { try: { title: "Try", Page: Try }, make: { title: "Make", Page: Make }, library: { title: "Library", Page: Library } };
type Place = keyof typeof PLACES;

const place = signal<Place>(named(location.hash));
addEventListener("hashchange", () => (place.value = named(location.hash)));

function named(hash: string): Place {
  const name = hash.slice(1).split("/")[0] as Place;
  return name in PLACES ? name : "try";
}

export function App() {
  const { Page } = PLACES[place.value];
  const model = info.value?.model;
  return (
    <>
      <a class="skip" href="#main" onClick={(event) => { event.preventDefault(); document.getElementById("main")?.focus(); }}>
        Skip to the answers
      </a>
      <header class="top">
        <span class="brand">trimtab</span>
        <nav aria-label="Places">
          {(Object.keys(PLACES) as Place[]).map((name) => (
            <a key={name} href={`#${name}`} aria-current={name === place.value ? "page" : undefined}>
              {PLACES[name].title}
            </a>
          ))}
        </nav>
        <span class="model">{model && [model.name, model.device ?? "", `${model.layers} layers`].filter(Boolean).join(" · ")}</span>
      </header>
      {offline.value && <p class="banner" role="alert">The server does not answer. Your text is kept; it is asked again.</p>}
      <Page />
    </>
  );
}
