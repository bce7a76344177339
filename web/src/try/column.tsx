// One answer: its words, what was done to it, and what can be done about it.
import { useEffect } from "preact/hooks";
import { useSignal } from "@preact/signals";
import { Problem } from "../parts/notice";
import { dials, isInside, safeOf, signed, tidy, turn as setDial } from "../state/dials";
import { answerColumn, answerTurn, goOn, stop } from "../state/answering";
import { vectorOf } from "../state/server";
import { type Answer, type Column as Name, colourBy, forgetFirst, isStale, pick, pickedOf, sampling, shown, textOf, TITLES, type Turn } from "../state/talk";
import { distinctShare, MIN_DISTINCT, nats } from "../state/words";
import { Words } from "./words";

export function Column({ turn, column }: { readonly turn: Turn; readonly column: Name }) {
  const answer = pickedOf(turn, column);
  const title = TITLES[column];
  return (
    <div role="group" class={`answer ${column}`} aria-label={title}>
      <header class="row">
        <h3>{title}</h3>
        {answer && <span class="soft small steering">{column === "prompt" ? `“${answer.system ?? ""}”` : answer.steering === "none" ? "" : answer.steering}</span>}
        {answer?.status === "streaming" && <Rate answer={answer} />}
      </header>
      {answer ? <Shown turn={turn} column={column} answer={answer} /> : <NotAnswered turn={turn} column={column} />}
    </div>
  );
}

function Rate({ answer }: { readonly answer: Answer }) {
  return (
    <span class="row end small soft number">
      {answer.seconds > 0 && `${(answer.tokens.length / answer.seconds).toFixed(0)} tokens/s`}
      <button type="button" class="small" onClick={stop}>Stop</button>
    </span>
  );
}

function NotAnswered({ turn, column }: { readonly turn: Turn; readonly column: Name }) {
  return (
    <p>
      <button type="button" onClick={() => void answerColumn(turn.id, column)}>Answer here</button>
    </p>
  );
}

function Shown({ turn, column, answer }: { readonly turn: Turn; readonly column: Name; readonly answer: Answer }) {
  const { status, tokens } = answer;
  const working = status === "waiting" || status === "streaming";
  const text = textOf(answer);
  return (
    <>
      <Seeds turn={turn} column={column} />
      {tokens.length > 0 && <Words tokens={tokens} colour={colourBy.value} label={`${TITLES[column]}, turn ${turn.id}`} />}
      {status === "waiting" && (answer.retryAt ? <Queue answer={answer} /> : tokens.length === 0 && <p class="soft">Waiting for the first word…</p>)}
      {!working && !text.trim() && status === "done" && <p class="soft">(no answer)</p>}
      <Trouble turn={turn} column={column} answer={answer} />
      {!working && <Receipt answer={answer} column={column} />}
      {text && distinctShare(text) < MIN_DISTINCT && <Loops share={distinctShare(text)} column={column} />}
      {!working && isStale(turn, column) && <p class="small soft">answered {column === "prompt" ? "with another prompt" : `at ${answer.steering}`}</p>}
    </>
  );
}

/** Tabs of the answers of several seeds; the conversation goes on with the one that is shown. */
function Seeds({ turn, column }: { readonly turn: Turn; readonly column: Name }) {
  const answers = turn.answers[column] ?? [];
  if (answers.length < 2) return null;
  const picked = turn.picked[column] ?? 0;
  return (
    <div class="row seeds" role="group" aria-label={`${TITLES[column]}: seeds`}>
      {answers.map((answer, n) => (
        <button key={n} type="button" class="small" aria-pressed={n === picked} title={`seed ${answer.seed}, temperature ${answer.temperature}`} onClick={() => pick(turn.id, column, n)}>
          seed {answer.seed}{answer.temperature === 0 ? ", greedy" : ""}
        </button>
      ))}
    </div>
  );
}

function Queue({ answer }: { readonly answer: Answer }) {
  const left = useSignal(0);
  useEffect(() => {
    const count = () => (left.value = Math.max(0, Math.ceil((answer.retryAt! - Date.now()) / 1000)));
    count();
    const timer = setInterval(count, 500);
    return () => clearInterval(timer);
  }, [answer.retryAt]);
  return <p class="soft">{answer.error?.what}; asked again in {left.value} s</p>;
}

function Trouble({ turn, column, answer }: { readonly turn: Turn; readonly column: Name; readonly answer: Answer }) {
  const { status, error, finish } = answer;
  const text = textOf(answer);
  const retry = <button type="button" onClick={() => void answerColumn(turn.id, column)}>Answer again</button>;
  const on = text.trim() && <button type="button" onClick={() => void goOn(turn.id, column)}>Go on</button>;
  if (status === "stopped") return <p class="row small"><span class="soft">Stopped.</span>{on}{retry}</p>;
  if (status === "done" && finish === "length") return <p class="row small"><span class="soft">Cut at {answer.tokens.length} tokens.</span>{on}</p>;
  if (!error || status === "waiting" || status === "streaming" || status === "done") return null;
  const full = error.code === "bad_prompt" && /tokens/.test(error.what);
  const shorter = Math.floor(sampling.value.maxTokens / 2);
  return (
    <Problem error={error}>
      {on}
      {retry}
      {full && (
        <button type="button" onClick={() => { forgetFirst(); void answerTurn(turn.id, shown.value); }}>Forget the first turn</button>
      )}
      {(full || /memory/.test(error.what)) && shorter >= 16 && (
        <button type="button" onClick={() => { sampling.value = { ...sampling.value, maxTokens: shorter }; void answerTurn(turn.id, shown.value); }}>
          At most {shorter} tokens
        </button>
      )}
    </Problem>
  );
}

function Receipt({ answer, column }: { readonly answer: Answer; readonly column: Name }) {
  const { receipt, tokens } = answer;
  const read = colourBy.value;
  const readings = tokens.filter((token) => read in token.readings).map((token) => token.readings[read]!);
  const mean = readings.reduce((sum, z) => sum + z, 0) / readings.length;
  if (!tokens.length) return null;
  const steered = receipt !== null && receipt.tokens > 0;
  return (
    <p class="receipt small">
      {steered && receipt.kl != null && <span><b>{receipt.kl.toFixed(2)}</b> nat, {nats(receipt.kl).split(", ")[1] ?? "nothing"}</span>}
      {steered && <span><b>{receipt.layers.length}</b> layers, <b>{receipt.tokens}</b> tokens steered</span>}
      {receipt && !steered && <span>{receipt.reason === "constrained" ? "not steered: it is constrained" : "not steered"}</span>}
      {!receipt && column !== "plain" && column !== "prompt" && <span>no receipt: the answer did not end</span>}
      {readings.length > 0 && <span>reads <b>{signed(mean, 1)}</b> z {read}</span>}
      {answer.beyondSafe && <span class="warn">▲ outside of the safe range</span>}
    </p>
  );
}

/** What was measured of an answer that goes round in circles, and the way out of it. */
function Loops({ share, column }: { readonly share: number; readonly column: Name }) {
  const softer = column === "steered" || column === "opposite" ? softerDial(column) : null;
  return (
    <p class="row small">
      <span class="warn">▲ 3-word groups repeat: {Math.round(share * 100)} % distinct</span>
      {softer && (
        <button type="button" class="small" onClick={() => setDial(softer.at, { strength: softer.strength })}>
          Turn {softer.name} down to {signed(softer.strength)}
        </button>
      )}
    </p>
  );
}

/** Return the strongest dial, with the end of its safe range or half its strength. */
function softerDial(column: Name): { at: number; name: string; strength: number } | null {
  const factor = column === "opposite" ? -1 : 1;
  const turned = dials.value
    .map((dial, at) => ({ dial, at }))
    .filter(({ dial }) => dial.on && dial.text === undefined && dial.strength !== 0 && vectorOf.value.has(dial.name))
    .toSorted((a, b) => Math.abs(b.dial.strength) - Math.abs(a.dial.strength))[0];
  if (!turned) return null;
  const { dial, at } = turned;
  const safe = safeOf(vectorOf.value.get(dial.name));
  const strength = factor * dial.strength;
  const end = safe && !isInside(strength, safe) ? (strength > 0 ? safe.high : safe.low) : strength / 2;
  return { at, name: dial.name, strength: tidy(factor * end) || 0 };
}
