/** Tiles put together: a range in fine bins within the whole run in coarse ones. */

import type { StepRange, Tile } from "./api";
import { type Band, type RankFigures, readCells } from "./data";

export type StepFigures = Pick<
  RankFigures,
  "step" | "last_step" | "loss" | "norm_bits" | "max_norm_bits" | "cells"
>;

/** Return what of a rank's figures comes in tiles. */
export function stepsOf(figures: RankFigures): StepFigures & Pick<RankFigures, "tensors"> {
  const { step, last_step, loss, norm_bits, max_norm_bits, cells, tensors } = figures;
  return { step, last_step, loss, norm_bits, max_norm_bits, cells, tensors };
}

/** Return a range of steps widened to the bins of a tile, so that each bin lies inside or outside. */
export function widened([first, last]: readonly [number, number], tile: Tile): [number, number] {
  const { width } = tile;
  return [Math.floor(first / width) * width, (Math.floor(last / width) + 1) * width - 1];
}

/** Return a tile of all steps with one range replaced by a finer tile of it. */
export function merged(whole: Tile, range: StepRange, fine: Tile | null): StepFigures {
  const tensors = whole.tensors?.length ?? 0;
  const old = readCells({ cells: whole.cells ?? "" });
  if (!fine || !range) return { ...whole, cells: old };
  const [first, last] = range;
  const from = whole.step.filter((each) => each < first).length;
  const to = whole.step.filter((each) => each <= last).length;
  const cut = { from, to, size: fine.step.length };
  const inner = readCells({ cells: fine.cells ?? "" });
  const [columns, within] = [whole.step.length, fine.step.length];
  const width = columns - (to - from) + within;
  const cells = new Int16Array(tensors * width);
  for (let row = 0; row < tensors; row += 1) {
    cells.set(old.subarray(row * columns, row * columns + from), row * width);
    cells.set(inner.subarray(row * within, (row + 1) * within), row * width + from);
    cells.set(old.subarray(row * columns + to, (row + 1) * columns), row * width + from + within);
  }
  return {
    step: spliced(whole.step, fine.step, cut),
    last_step: whole.last_step,
    loss: joined(whole.loss, fine.loss, cut),
    norm_bits: joined(whole.norm_bits, fine.norm_bits, cut),
    max_norm_bits: joined(whole.max_norm_bits, fine.max_norm_bits, cut),
    cells,
  };
}

interface Cut {
  from: number;
  to: number;
  size: number;
}

function spliced<T>(whole: readonly T[], fine: readonly T[], { from, to }: Cut): T[] {
  return [...whole.slice(0, from), ...fine, ...whole.slice(to)];
}

function joined(whole: Band, fine: Band, cut: Cut): Band {
  return {
    minimum: spliced(whole.minimum, fine.minimum, cut),
    maximum: spliced(whole.maximum, fine.maximum, cut),
    nan: marked(whole.nan, fine.nan, cut),
    inf: marked(whole.inf, fine.inf, cut),
  };
}

function marked(whole: readonly number[], fine: readonly number[], { from, to, size }: Cut): number[] {
  return [
    ...whole.filter((each) => each < from),
    ...fine.map((each) => each + from),
    ...whole.filter((each) => each >= to).map((each) => each - to + from + size),
  ];
}
