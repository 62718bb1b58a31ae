/** What `gainstage.show.html.report_data` writes: the schema `gainstage.report/1`. */

import type * as facts from "./facts";

/** As `symptoms.jsonl` and `findings.json` have it. */
export type Symptom = facts.Symptom;
export type Severity = Symptom["severity"];
export type Verdict = facts.Findings["verdict"];

export interface Band {
  minimum: (number | null)[];
  maximum: (number | null)[];
  /** Bins that hold a NaN. */
  nan: number[];
  inf: number[];
}

export interface Tensor {
  name: string;
  module: string | null;
  dtype: string;
  shape: number[];
}

/** Levels of layers at sampled steps; the texts are rows of float32, one a step. */
export interface Ledger {
  steps: number[];
  /** The tensor of each layer. */
  layers: number[];
  names: string[];
  forward: string;
  backward: string;
  headroom: string;
  /** Bits a layer, one a step. */
  backward_slope: (number | null)[];
  forward_slope: (number | null)[];
}

export interface TimeSeries {
  name: string;
  /** A recurrence through depth, not time. */
  depth: boolean;
  time_step: number[];
  hidden: string;
  delta: string;
  slope: number | null;
}

export interface TimeSample {
  step: number;
  series: TimeSeries[];
}

export interface Fault extends Pick<facts.Fault, "step" | "kind" | "phase"> {
  message: string;
  place: string[];
  /** Operation, module and place in the file, from the culprit on. */
  chain: [string, string, string][];
  longer: number;
  values: [string, string][];
}

export interface RankFigures {
  rank: number;
  name: string;
  /** The first step of each bin. */
  step: number[];
  last_step: number;
  tensors: Tensor[];
  loss: Band;
  norm_bits: Band;
  max_norm_bits: Band;
  /** A row a tensor, a column a bin: hundredths of a bit; or base64 of these, little-endian. */
  cells: string | Int16Array;
  /** The tensors in the order in which the graph meets them. */
  depth_order: number[];
  ledger: Ledger;
  times: { samples: TimeSample[] };
  /** log2 of lr times gradient over weight; rows of float32, one a step. */
  ratios: { steps: number[]; tensors: number; bits: string };
  clips: { said: string[]; limits: [string, string, string][] };
  faults: Fault[];
}

export interface Source {
  file: string;
  first: number;
  lines: string[];
  line: number;
  newer: boolean;
}

/** The diagnosis of the findings, with its causes in words and its place with the lines around it. */
export interface Diagnosis extends Pick<facts.Diagnosis, "cause" | "confidence"> {
  words: string;
  alternatives: (facts.Alternative & { words: string })[];
  evidence: Pick<facts.Evidence, "evidence" | "bits" | "text">[];
  module: facts.CauseSite["module"];
  place: string[];
  source: Source | null;
  remedies: (Pick<facts.Remedy, "remedy" | "why"> & { treat: string | null })[];
}

export interface Trials {
  columns: string[];
  rows: string[][];
  best: string | null;
  diff: string | null;
}

export interface Report {
  schema: "gainstage.report/1";
  version: string;
  script: string;
  folder: string;
  verdict: Verdict;
  verdict_text: string;
  extent: string;
  answers: { label: string; text: string; main: boolean }[];
  growing: { name: string; dtype: string; slope_bits_per_step: number; headroom_bits: number }[];
  /** The command that runs it with the first remedy. */
  treat: string | null;
  next: string[];
  symptoms: Symptom[];
  facts: [string, string][];
  damage: string[];
  diagnosis: Diagnosis | null;
  treatments: [string, string, string][];
  trials: Trials | null;
  ranks: RankFigures[];
  ranks_in_all: number;
}

export const ABSENT = -32768;
export const ZERO = -32767;
export const NAN = 32766;
export const INF = 32767;

/** Return the report that lies in the page. */
export function readReport(): Report {
  const text = document.getElementById("data")?.textContent;
  if (!text) throw new Error("the page holds no data");
  return JSON.parse(text) as Report;
}

/** Return a heatmap's cells, decoded; a big-endian machine would need a swap, none runs browsers. */
export function readCells({ cells }: Pick<RankFigures, "cells">): Int16Array {
  if (typeof cells !== "string") return cells;
  const bytes = Uint8Array.from(atob(cells), (c) => c.charCodeAt(0));
  return new Int16Array(bytes.buffer);
}

/** Return numbers that were written as float32. */
export function readFloats(text: string): Float32Array {
  return new Float32Array(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
}

/** Return the bin that holds a step: the last one that begins at or before it. */
export function binOf(starts: readonly number[], step: number): number {
  let low = 0;
  let high = starts.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if ((starts[middle] ?? 0) <= step) low = middle;
    else high = middle - 1;
  }
  return low;
}

/** Return a slope, finer than a level: a tenth of a bit is much over a hundred stages. */
export function slopeText(bits: number): string {
  return `${bits < 0 ? "\u2212" : "+"}${Math.abs(bits).toFixed(2)} bits`;
}

/** Return a cell in words. */
export function cellText(code: number): string {
  if (code === ABSENT) return "no gradient";
  if (code === ZERO) return "0";
  if (code === NAN) return "NaN";
  if (code === INF) return "inf";
  return bitsText(code / 100);
}

export function bitsText(bits: number): string {
  return `${bits < 0 ? "\u2212" : "+"}${Math.abs(bits).toFixed(1)} bits`;
}

export function numberText(value: number): string {
  const size = Math.abs(value);
  if (value !== 0 && (size >= 1e5 || size < 1e-3)) return Number(value.toPrecision(3)).toExponential().replace("e+", "e");
  return String(Number(value.toPrecision(5)));
}
