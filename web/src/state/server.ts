// What the server has: its model and its vectors.
import { computed, signal } from "@preact/signals";
import { api, ApiError, type Info, unwrap, type Vector } from "../api";

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
