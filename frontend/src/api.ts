/** What `gainstage serve` answers; all addresses lie below that of the page, which holds the token. */

import type { Band, Report, Tensor, Verdict } from "./data";

export interface RunRow {
  name: string;
  script: string;
  verdict: Verdict;
  worst: string;
  steps: number;
  /** `silent`: not ended, but nothing was written for some time; `killed`: its process is gone. */
  state: "live" | "silent" | "killed" | "ended";
  started: string;
  treat: string[];
}

export interface RunList {
  folder: string;
  runs: RunRow[];
}

/** A range of steps in as many bins as a screen shows. */
export interface Tile {
  rank: number;
  /** Steps a bin. */
  width: number;
  /** The last step on record, also of a tile that ends before it. */
  run_last_step: number;
  step: number[];
  last_step: number;
  loss: Band;
  norm_bits: Band;
  max_norm_bits: Band;
  cells?: string;
  /** In a tile of all steps only. */
  tensors?: Tensor[];
}

export type StepRange = readonly [number, number] | null;

export const fetchRuns = (): Promise<RunList> => get("runs", {});
export const fetchReport = (run: string): Promise<Report> => get("report", { run });

/** Return a tile; without its heatmap if only the lines are wanted. */
export function fetchTile(run: string, rank: number, range: StepRange, lines = false): Promise<Tile> {
  const [first, last] = range ?? [];
  return get("tile", {
    run,
    rank: String(rank),
    ...(first === undefined ? {} : { first: String(first) }),
    ...(last === undefined ? {} : { last: String(last) }),
    ...(lines ? { lines: "" } : {}),
  });
}

async function get<T>(path: string, query: Record<string, string>): Promise<T> {
  const answer = await fetch(`${path}?${new URLSearchParams(query).toString()}`);
  if (!answer.ok) throw new Error(`${path}: ${(await answer.text()).trim() || answer.status}`);
  return (await answer.json()) as T;
}

/** Return a call that starts some work, once more if called while it goes on, never twice at once. */
export function steady(work: () => Promise<void>, failed: (error: unknown) => void): () => void {
  let busy = false;
  let again = false;
  const start = (): void => {
    if (busy) {
      again = true;
      return;
    }
    busy = true;
    void work().catch(failed).finally(() => {
      busy = false;
      if (!again) return;
      again = false;
      start();
    });
  };
  return start;
}
