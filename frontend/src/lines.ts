/** A series over steps: its range in each bin, clip limit, symptoms and non-finite values. */

import uPlot from "uplot";
import type { Band, RankFigures, Symptom } from "./data";
import { chosenMark, nonfiniteMarks, symptomMarks } from "./marks";
import type { Store } from "./store";
import { theme } from "./theme";

export interface Frame {
  width: number;
  /** Width of the left axis, the same in every chart, so that steps stand above each other. */
  axis: number;
  sync: uPlot.SyncPubSub;
  onZoom: (chart: uPlot) => void;
}

/** A chart over steps, whose figures may have changed. */
export interface OverSteps {
  chart: uPlot;
  /** Take what the figures hold now; the axis over steps stays as it is. */
  update: () => void;
}

export interface LineChart {
  band: (figures: RankFigures) => Band;
  /** A second, thinner line. */
  limit?: (figures: RankFigures) => Band;
  height: number;
  /** Linear, logarithmic, or logarithmic with a sign. */
  scale: "linear" | "log" | "arcsinh";
  format: (value: number) => string;
}

/** Draw one series into a place. */
export function lineChart(
  place: HTMLElement,
  figures: RankFigures,
  symptoms: () => readonly Symptom[],
  frame: Frame,
  line: LineChart,
  store: Store,
): OverSteps {
  const colours = theme();
  const now = (): Band => line.band(figures);
  const series: uPlot.Series[] = [
    {},
    { label: "largest", stroke: colours.line, width: 1.5, points: { show: () => alone(now()) } },
    { label: "smallest", stroke: colours.line, width: 1 },
  ];
  const { limit } = line;
  if (limit) series.push({ label: "max_norm", stroke: colours.limit, width: 1, dash: [6, 4] });
  const data = (): uPlot.AlignedData => [
    figures.step,
    now().maximum,
    now().minimum,
    ...(limit ? [limit(figures).maximum] : []),
  ];
  const options: uPlot.Options = {
    width: frame.width,
    height: line.height,
    legend: { show: false },
    cursor: cursor(frame),
    scales: {
      x: { time: false },
      y: {
        distr: line.scale === "log" ? 3 : line.scale === "arcsinh" ? 4 : 1,
        // Without a value uPlot would drop the axis, and steps would not stand above each other.
        ...(now().maximum.some((each) => each !== null) ? {} : { range: [0, 1] as [number, number] }),
      },
    },
    axes: [
      xAxis(),
      {
        size: frame.axis,
        stroke: colours.text,
        grid: grid(line.scale),
        ticks: { show: false },
        values: (_, splits) => splits.map((each) => (each === null ? "" : line.format(each))),
      },
    ],
    series,
    bands: [{ series: [1, 2], fill: colours.band }],
    plugins: [
      nonfiniteMarks(() => ({ step: figures.step, band: now() })),
      symptomMarks(symptoms),
      chosenMark(store),
    ],
    hooks: { setScale: [(chart, key) => key === "x" && frame.onZoom(chart)] },
  };
  const chart = new uPlot(options, data(), place);
  return { chart, update: () => chart.setData(data(), false) };
}

export function xAxis(): uPlot.Axis {
  const colours = theme();
  return {
    stroke: colours.text,
    grid: { show: false },
    ticks: { stroke: colours.grid, size: 4 },
    size: 28,
    incrs: [1, 2, 5].flatMap((n) => [0, 1, 2, 3, 4, 5, 6, 7, 8].map((e) => n * 10 ** e))
      .sort((a, b) => a - b),
    values: (_, splits) => splits.map((each) => each.toLocaleString("en")),
  };
}

/** Return lines across a chart: of a logarithmic scale at powers of ten only. */
export function grid(scale: LineChart["scale"]): uPlot.Axis.Grid {
  const stroke = theme().grid;
  if (scale === "linear") return { stroke, width: 1 };
  const filter: uPlot.Axis.Filter = (_, splits) =>
    splits.map((each) => (each === 0 || Number.isInteger(Math.log10(Math.abs(each))) ? each : null));
  return { stroke, width: 1, filter };
}

export function cursor(frame: Frame): uPlot.Cursor {
  return {
    y: false,
    sync: { key: frame.sync.key, scales: ["x", null] },
    drag: { x: true, y: false },
    points: { show: false },
  };
}

/** Tell whether a line through the values would be invisible: a point between gaps has no line. */
function alone(band: Band): boolean {
  return band.maximum.filter((each) => each !== null).length < 3;
}

/** Return the scale that shows a series best: logarithmic where it spans much. */
export function scaleOf(band: Band): LineChart["scale"] {
  const values = [...band.minimum, ...band.maximum].filter((each) => each !== null);
  if (!values.length) return "linear";
  const low = values.reduce((a, b) => Math.min(a, b));
  const high = values.reduce((a, b) => Math.max(a, b));
  if (low > 0) return high / low > 100 ? "log" : "linear";
  return Math.max(Math.abs(low), Math.abs(high)) > 1e4 ? "arcsinh" : "linear";
}
