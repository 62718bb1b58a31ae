/** The gradient norm of every tensor at every step, as a uPlot plugin that paints an image. */

import uPlot from "uplot";
import { ABSENT, binOf, INF, NAN, type RankFigures, readCells, type Symptom, ZERO } from "./data";
import { cursor, type Frame, type OverSteps, xAxis } from "./lines";
import { chosenMark, symptomMarks } from "./marks";
import { shortened } from "./page";
import type { Store } from "./store";
import { channels, theme, viridis } from "./theme";

export interface Heatmap extends OverSteps {
  image: Image;
  /** Return the tensor under the cursor. */
  tensorAt: (top: number) => number | null;
}

/** What is painted; another one as the figures change. */
export interface Image {
  cells: Int16Array;
  /** The smallest and largest level, in bits. */
  range: [number, number];
}

const ROW = 14;

/** Draw the heatmap into a place: a row a tensor, those given and in that order. */
export function heatmap(
  place: HTMLElement,
  figures: RankFigures,
  shown: readonly number[],
  symptoms: () => readonly Symptom[],
  frame: Frame,
  store: Store,
): Heatmap {
  const tensors = shown.length;
  const painted = read(figures);
  const colours = theme();
  const height = Math.min(Math.max(tensors * ROW, 60), 520);
  const every = Math.ceil(tensors / Math.floor(height / ROW));
  const named = frame.axis >= 64;
  const options: uPlot.Options = {
    width: frame.width,
    height: height + 42,
    legend: { show: false },
    cursor: cursor(frame),
    scales: { x: { time: false }, y: { range: [0, tensors], dir: -1 } },
    axes: [
      xAxis(),
      {
        size: frame.axis,
        stroke: colours.text,
        font: "11px system-ui, sans-serif",
        grid: { show: false },
        ticks: { show: false },
        splits: () => shown.flatMap((_, i) => (i % every ? [] : [i + 0.5])),
        values: (_, splits) =>
          splits.map((at) => {
            const name = figures.tensors[shown[Math.floor(at)] ?? -1]?.name ?? "";
            return named ? shortened(name, Math.floor((frame.axis - 16) / 5.9)) : `${at + 0.5}`;
          }),
      },
    ],
    series: [{}, { label: "tensors", paths: () => null, points: { show: false } }],
    plugins: [image(figures, shown, painted), symptomMarks(symptoms), chosenMark(store)],
    hooks: { setScale: [(chart, key) => key === "x" && frame.onZoom(chart)] },
  };
  const data = (): uPlot.AlignedData => [figures.step, figures.step.map(() => 0)];
  const chart = new uPlot(options, data(), place);
  chart.root.addEventListener("click", (event) => {
    const box = chart.over.getBoundingClientRect();
    const tensor = figures.tensors[tensorAt(event.clientY - box.top) ?? -1];
    if (event.clientX < box.left && tensor) store.set({ filter: tensor.module || tensor.name });
  });
  const tensorAt = (top: number): number | null => {
    const row = Math.floor(chart.posToVal(top, "y"));
    return shown[row] ?? null;
  };
  const update = (): void => {
    Object.assign(painted, read(figures));
    chart.setData(data(), false);
  };
  return { chart, update, image: painted, tensorAt };
}

function read(figures: RankFigures): Image {
  const cells = readCells(figures);
  return { cells, range: levels(cells) };
}

function image(
  figures: RankFigures,
  shown: readonly number[],
  painted: Image,
): uPlot.Plugin {
  return {
    hooks: {
      draw: (chart) => {
        const { ctx, bbox } = chart;
        const { cells, range } = painted;
        const columns = figures.step.length;
        const tensors = shown.length;
        if (!columns || !tensors) return;
        const width = Math.round(bbox.width);
        // More rows than pixels are joined like columns: the largest is seen.
        const rows = Math.min(tensors, Math.round(bbox.height));
        const pixels = new ImageData(width, rows);
        const paint = painter(range);
        const edges = columnEdges(chart, figures, width);
        for (let y = 0; y < rows; y += 1) {
          const first = Math.floor((y * tensors) / rows);
          const end = Math.max(first + 1, Math.floor(((y + 1) * tensors) / rows));
          for (let x = 0; x < width; x += 1) {
            const from = edges[2 * x] ?? 0;
            const to = edges[2 * x + 1] ?? 0;
            let largest = ABSENT;
            for (let row = first; row < end; row += 1) {
              const start = (shown[row] ?? 0) * columns;
              for (let bin = from; bin < to; bin += 1) {
                largest = worse(largest, cells[start + bin] ?? ABSENT);
              }
            }
            paint(pixels.data, 4 * (y * width + x), largest);
          }
        }
        const canvas = document.createElement("canvas");
        canvas.width = width;
        canvas.height = rows;
        canvas.getContext("2d")?.putImageData(pixels, 0, 0);
        ctx.save();
        ctx.imageSmoothingEnabled = false;
        ctx.drawImage(canvas, bbox.left, bbox.top, bbox.width, bbox.height);
        ctx.restore();
      },
    },
  };
}

/** Return the first and the end of the bins that each column of pixels covers. */
function columnEdges(chart: uPlot, figures: RankFigures, width: number): Int32Array {
  const { min, max } = chart.scales.x ?? {};
  const low = min ?? 0;
  const perPixel = ((max ?? 1) - low) / width;
  const edges = new Int32Array(2 * width);
  for (let x = 0; x < width; x += 1) {
    const from = binOf(figures.step, low + x * perPixel);
    // Nothing begins after the last bin: it would never be reached.
    const to = binOf(figures.step, low + (x + 1) * perPixel) + (x === width - 1 ? 1 : 0);
    edges[2 * x] = from;
    edges[2 * x + 1] = Math.max(to, from + 1);
  }
  return edges;
}

/** NaN is worse than inf, and that than any level. */
function worse(a: number, b: number): number {
  if (a === NAN || b === NAN) return NAN;
  return Math.max(a, b);
}

/** Return the range of levels, at least 4 bits wide, so that noise does not look like a signal. */
function levels(cells: Int16Array): [number, number] {
  let low = Number.POSITIVE_INFINITY;
  let high = Number.NEGATIVE_INFINITY;
  for (const code of cells) {
    if (code === ABSENT || code === ZERO || code === NAN || code === INF) continue;
    low = Math.min(low, code);
    high = Math.max(high, code);
  }
  if (low > high) return [0, 4];
  const missing = Math.max(0, 400 - (high - low)) / 2;
  return [(low - missing) / 100, (high + missing) / 100];
}

function painter(range: [number, number]) {
  const colours = theme();
  const special = new Map<number, [number, number, number]>([
    [ABSENT, channels(colours.empty)],
    [ZERO, [0, 0, 0]],
    [NAN, channels(colours.nan)],
    [INF, channels(colours.inf)],
  ]);
  const [low, high] = range;
  return (data: Uint8ClampedArray, at: number, code: number): void => {
    const [red, green, blue] = special.get(code) ?? viridis((code / 100 - low) / (high - low));
    data[at] = red;
    data[at + 1] = green;
    data[at + 2] = blue;
    data[at + 3] = 255;
  };
}
