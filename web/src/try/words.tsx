// The words of an answer, coloured by reading; each of them says what is known of it.
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { signed } from "../state/dials";
import type { Token } from "../state/talk";
import { percent } from "../state/words";

const STRONGEST = 3; // standard deviations at which the colour is full; a few tokens reach far more
const LEAST = 0.5; // below it a word has no colour
const WIDTH = 264; // pixels of the pop-over
const HEIGHT = 215;

export function Words({ tokens, colour, label }: { readonly tokens: readonly Token[]; readonly colour: string; readonly label: string }) {
  const [at, setAt] = useState<number | null>(null);
  const box = useRef<HTMLDivElement>(null);
  // The same spans stay the same while only the pop-over moves.
  const spans = useMemo(() => tokens.map((token, n) => <Word key={n} token={token} colour={colour} />), [tokens, colour]);
  const current = at === null ? null : tokens[at];
  useEffect(() => {
    const span = at === null ? null : (box.current?.children[at] as HTMLElement | undefined);
    span?.classList.add("current");
    return () => span?.classList.remove("current");
  }, [at, spans]);
  const move = (by: number) => {
    let next = at === null ? (by > 0 ? 0 : tokens.length - 1) : at + by;
    while (tokens[next]?.text === "") next += by; // the bytes of a character in several tokens
    if (tokens[next]) setAt(next);
  };
  return (
    <div class="answer-text">
      <div
        ref={box}
        class="words"
        role="log"
        aria-live="off"
        aria-label={label}
        tabIndex={0}
        onClick={(event) => {
          const n = [...event.currentTarget.children].indexOf(event.target as Element);
          setAt(n < 0 || n === at ? null : n);
        }}
        onBlur={() => setAt(null)}
        onKeyDown={(event) => {
          if (event.key === "ArrowRight") move(1);
          else if (event.key === "ArrowLeft") move(-1);
          else if (event.key === "Home") setAt(0);
          else if (event.key === "End") setAt(tokens.length - 1);
          else if (event.key === "Enter") setAt(at === null ? 0 : null);
          else if (event.key === "Escape" && at !== null) setAt(null);
          else return;
          event.preventDefault();
          event.stopPropagation();
        }}
      >
        {spans}
      </div>
      <div class="vh" role="status">{current && spoken(current)}</div>
      {current && <Details token={current} style={place(box.current, at!)} />}
    </div>
  );
}

function Word({ token, colour }: { readonly token: Token; readonly colour: string }) {
  const z = token.readings[colour] ?? 0;
  const kind = token.thought ? "thought" : Math.abs(z) < LEAST ? "" : z > 0 ? "towards-plus" : "towards-minus";
  const style = kind.startsWith("towards") ? { "--a": Math.min(Math.abs(z) / STRONGEST, 1).toFixed(2) } : undefined;
  return <span class={kind || undefined} style={style}>{token.text}</span>;
}

interface Place {
  readonly left: string;
  readonly top?: string;
  readonly bottom?: string;
}

/** Return where the pop-over fits: below its word, or above it where the composer would cover it. */
function place(box: HTMLElement | null, at: number): Place {
  const span = box?.children[at] as HTMLElement | undefined;
  if (!box || !span) return { left: "0", top: "100%" };
  const left = `${Math.max(0, Math.min(span.offsetLeft, box.clientWidth - WIDTH))}px`;
  const composer = document.querySelector<HTMLElement>(".composer")?.offsetHeight ?? 0;
  const covered = span.getBoundingClientRect().bottom + HEIGHT > innerHeight - composer;
  return covered ? { left, bottom: `${box.clientHeight - span.offsetTop + 4}px` } : { left, top: `${span.offsetTop + span.offsetHeight + 4}px` };
}

function Details({ token, style }: { readonly token: Token; readonly style: Place }) {
  return (
    <div class="details card" style={{ ...style }} aria-hidden="true">
      <p><code>{JSON.stringify(token.text)}</code>{token.logprob !== null && ` ${percent(token.logprob)} likely`}</p>
      {Object.entries(token.readings).map(([name, z]) => (
        <p key={name} class="number">reads {signed(z, 1)} z {name}</p>
      ))}
      {token.others.length > 0 && (
        <table>
          <caption class="soft">Most likely here</caption>
          <tbody>
            {token.others.map((other, n) => (
              <tr key={n}>
                <td><code>{JSON.stringify(other.text)}</code></td>
                <td class="number">{percent(other.logprob)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
    </div>
  );
}

/** What the pop-over says, for screen readers. */
function spoken(token: Token): string {
  const readings = Object.entries(token.readings).map(([name, z]) => `${signed(z, 1)} ${name}`);
  const others = token.others.filter((other) => other.text !== token.text).map((other) => `${other.text.trim()} ${percent(other.logprob)}`);
  return [
    token.text.trim() || "white space",
    token.logprob !== null && percent(token.logprob),
    readings.length > 0 && `reads ${readings.join(", ")}`,
    others.length > 0 && `or ${others.join(", ")}`,
  ].filter(Boolean).join("; ");
}
