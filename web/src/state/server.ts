// What the server has: its model and its vectors.
import { computed, signal } from "@preact/signals";
import { api, ApiError, type Info, offline, unwrap, type Vector } from "../api";

const FIRST_RETRY = 1_000; // milliseconds
const LAST_RETRY = 15_000;

export const info = signal<Info | null>(null);
export const vectors = signal<readonly Vector[]>([]);
/** Why files in the server's folder are no vectors for this model, by name. */
export const unusable = signal<Readonly<Record<string, string>>>({});
export const needsKey = signal(false);

export const vectorOf = computed(() => new Map(vectors.value.map((vector) => [vector.name, vector])));

/** Read what the server has. */
export async function refresh(): Promise<void> {
  try {
    const [about, found] = await Promise.all([api.GET("/v1/info"), api.GET("/v1/vectors")]);
    info.value = unwrap(about);
    const list = unwrap(found);
    vectors.value = list.data;
    unusable.value = list.unusable;
    needsKey.value = false;
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    needsKey.value = error.status === 401;
  }
}

let wait = FIRST_RETRY;

/** Ask a server that does not answer again, less and less often, until it does. */
offline.subscribe((off) => {
  if (!off) {
    wait = FIRST_RETRY;
    return;
  }
  const ask = () => {
    if (!offline.value) return;
    wait = Math.min(wait * 1.5, LAST_RETRY);
    void refresh().then(() => offline.value && setTimeout(ask, wait));
  };
  setTimeout(ask, wait);
});
