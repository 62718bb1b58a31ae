/** Pictures over the layers: the gain ledger, headroom and update ratios, at the chosen step. */

import uPlot from "uplot";
import { bitsText, type RankFigures, readFloats, slopeText } from "./data";
import { infiniteMarks, levelLines } from "./marks";
import { element, key, shortened, table, title } from "./page";
import { matching, sampledAt, sampledText, type Store } from "./store";
import { theme } from "./theme";

/** A picture that can be taken to another step. */
export interface SampledChart {
  charts: uPlot[];
  update: () => void;
}

type Column = (number | null)[];

const MOST_NAMED = 40;

/** Draw the gain ledger: forward and backward level of each layer, with the slopes through them. */
export function ledger(
  place: HTMLElement,
  figures: RankFigures,
  store: Store,
  room: number,
  axis: number,
): SampledChart {
  const { steps, layers, names } = figures.ledger;
  const wanted = matching(figures.tensors, store.view.filter);
  const shown = layers.flatMap((tensor, i) => (wanted.has(tensor) ? [i] : []));
  const colours = theme();
  const [ahead = "", back = ""] = colours.several;
  title(
    place,
    "Gain through depth: level of each layer, in bits",
    element(
      "span",
      { class: "scale" },
      key(ahead, "activations"),
      key(back, "gradients"),
      element("span", { class: "key" }, "dashed: slope; dotted: gain 1"),
    ),
  );
  if (!steps.length || !shown.length) return nothing(place, "No layer was sampled here.");
  const forward = readFloats(figures.ledger.forward);
  const backward = readFloats(figures.ledger.backward);
  const headroom = readFloats(figures.ledger.headroom);
  const said = element("p", { class: "quiet", "aria-live": "polite" });
  const levels = element("div", { id: "levels" });
  const left = element("div", { id: "headroom" });
  const numbers = element("details", { class: "numbers" }, element("summary", {}, "the numbers"));
  const caption = element("figcaption", {}, element("span", {}, "Headroom of each layer, in bits"));
  place.append(said, levels, caption, left, numbers);
  const labels = shown.map((i) => names[i] ?? "");
  const at = (values: Float32Array): Column =>
    column(values, layers.length, shown, sampledAt(steps, store.view.step));
  let crossover: number | null = null;
  const data = (): uPlot.AlignedData => {
    const [ups, downs] = [at(forward), at(backward)];
    const now = sampledAt(steps, store.view.step);
    crossover = finite([...downs].reverse())[0] ?? null;
    // Gradients gain on their way back: over the layers they fall by as much.
    const rising = figures.ledger.backward_slope[now] ?? null;
    return [
      shown.map((_, i) => i),
      ups.map(drawn),
      downs.map(drawn),
      through(ups, figures.ledger.forward_slope[now] ?? null),
      through(downs, rising === null ? null : -rising),
    ];
  };
  const line = (stroke: string, fill: string): uPlot.Series => ({
    stroke,
    width: 2,
    points: { show: true, size: 7, stroke, fill },
  });
  const slope = (stroke: string): uPlot.Series => ({
    stroke,
    width: 1,
    dash: [6, 4],
    points: { show: false },
  });
  const chart = new uPlot(
    {
      ...frame(labels, room, axis, 250, rangeOf([forward, backward], layers.length, shown)),
      series: [{}, line(ahead, colours.empty), line(back, back), slope(ahead), slope(back)],
      plugins: [
        levelLines(() => [crossover]),
        infiniteMarks(() => infinite(at(forward), at(backward))),
      ],
    },
    data(),
    levels,
  );
  const bars = new uPlot(
    {
      ...frame(labels, room, axis, 150, [0, rangeOf([headroom], layers.length, shown)[1]]),
      series: [{}, { ...line(colours.line, colours.line), fill: colours.band,
        ...barPaths(), points: { show: false } }],
    },
    [shown.map((_, i) => i), at(headroom).map(drawn)],
    left,
  );
  const update = (): void => {
    const now = sampledAt(steps, store.view.step);
    chart.setData(data(), false);
    bars.setData([shown.map((_, i) => i), at(headroom).map(drawn)], false);
    chart.redraw();
    bars.redraw();
    said.textContent = `${sampledText(steps, store.view.step)}: ${verdict(figures, now)}`;
    const open = numbers.querySelector("summary");
    numbers.replaceChildren(
      ...(open ? [open] : []),
      layerTable(labels, at(forward), at(backward), at(headroom)),
    );
  };
  update();
  return { charts: [chart, bars], update };
}

/** Draw how far a step of plain gradient descent moves each weight, against its size. */
export function ratios(
  place: HTMLElement,
  figures: RankFigures,
  shown: readonly number[],
  store: Store,
  room: number,
  axis: number,
): SampledChart {
  title(
    place,
    "Update ratio lr·‖g‖/‖w‖ of each tensor, in bits",
    element("span", { class: "key" }, "dotted: 0 bits, as large as the weight; −10, as usual"),
  );
  const { steps, tensors } = figures.ratios;
  if (!steps.length || !shown.length) return nothing(place, "No weight was sampled.");
  const values = readFloats(figures.ratios.bits);
  const labels = shown.map((i) => figures.tensors[i]?.name ?? "");
  const said = element("p", { class: "quiet" });
  place.append(said);
  const now = (): Column => column(values, tensors, shown, sampledAt(steps, store.view.step));
  const data = (): uPlot.AlignedData => [shown.map((_, i) => i), now().map(drawn)];
  const [low, high] = rangeOf([values], tensors, shown);
  const colour = theme().line;
  const chart = new uPlot(
    {
      ...frame(labels, room, axis, 180, [Math.min(low, -12), Math.max(high, 1)]),
      series: [
        {},
        { stroke: colour, paths: () => null, points: { show: true, size: 7, fill: colour } },
      ],
      plugins: [levelLines(() => [0, -10]), infiniteMarks(() => infinite(now()))],
    },
    data(),
    place,
  );
  const update = (): void => {
    chart.setData(data(), false);
    chart.redraw();
    said.textContent =
      `${sampledText(steps, store.view.step)}: ` +
      (finite(now()).length ? "" : "no ratio is finite here; ") +
      "what plain gradient descent would do; " +
      "the update of Adam and its like does not depend on the gradient's size.";
  };
  update();
  return { charts: [chart], update };
}

/** Return a place without a picture. */
export function nothing(place: HTMLElement, why: string): SampledChart {
  place.append(element("p", { class: "quiet" }, why));
  return { charts: [], update: () => undefined };
}

/** Return the values of some columns at one sampled step; null where nothing was measured. */
function column(
  values: Float32Array,
  width: number,
  shown: readonly number[],
  sample: number,
): Column {
  return shown.map((i) => {
    const value = i < width ? values[sample * width + i] : undefined;
    return value === undefined || Number.isNaN(value) ? null : value;
  });
}

/** A line is drawn through finite levels only; infinite ones are marked. */
export function drawn(value: number | null): number | null {
  return value !== null && Number.isFinite(value) ? value : null;
}

function finite(values: readonly (number | null)[]): number[] {
  return values.filter((each): each is number => drawn(each) !== null);
}

function infinite(...columns: Column[]): number[] {
  return (columns[0] ?? []).flatMap((_, i) =>
    columns.some((each) => each[i] === Number.POSITIVE_INFINITY) ? [i] : [],
  );
}

/** Return a line of a slope through the middle of levels. */
function through(levels: Column, slope: number | null): Column {
  if (slope === null) return levels.map(() => null);
  const rests = levels.flatMap((each, i) => (drawn(each) === null ? [] : [(each ?? 0) - slope * i]));
  const middle = rests.sort((a, b) => a - b)[Math.floor(rests.length / 2)] ?? 0;
  return levels.map((_, i) => middle + slope * i);
}

/** Return the range over all sampled steps, so that the slider moves the curve and not the axis. */
function rangeOf(
  tables: readonly Float32Array[],
  width: number,
  shown: readonly number[],
): [number, number] {
  let low = Number.POSITIVE_INFINITY;
  let high = Number.NEGATIVE_INFINITY;
  for (const values of tables) {
    for (let row = 0; row * width < values.length; row += 1) {
      for (const each of finite(column(values, width, shown, row))) {
        low = Math.min(low, each);
        high = Math.max(high, each);
      }
    }
  }
  if (low > high) return [0, 1];
  const margin = Math.max(1, 0.06 * (high - low));
  return [low - margin, high + margin];
}

function frame(
  labels: readonly string[],
  room: number,
  axis: number,
  height: number,
  range: [number, number],
): Omit<uPlot.Options, "series"> {
  const colours = theme();
  const named = labels.length <= MOST_NAMED && room >= 640;
  const every = Math.ceil(labels.length / (room / 26));
  return {
    width: room,
    height: height + (named ? 72 : 28),
    legend: { show: false },
    cursor: { show: false },
    scales: { x: { time: false, range: [-0.5, labels.length - 0.5] }, y: { range } },
    axes: [
      {
        stroke: colours.text,
        font: "11px system-ui, sans-serif",
        grid: { show: false },
        ticks: { stroke: colours.grid, size: 4 },
        size: named ? 72 : 28,
        ...(named ? { rotate: -35 } : {}),
        splits: () => labels.flatMap((_, i) => (i % every ? [] : [i])),
        values: (_, splits) =>
          splits.map((i) => (named ? shortened(labels[i] ?? "", 18) : `${i + 1}`)),
      },
      {
        size: axis,
        stroke: colours.text,
        grid: { stroke: colours.grid, width: 1 },
        ticks: { show: false },
        values: (_, splits) => splits.map((each) => (each > 0 ? `+${each}` : `${each}`)),
      },
    ],
  };
}

/** Return uPlot's bars; its types allow for a build without them. */
function barPaths(): Pick<uPlot.Series, "paths"> {
  const paths = uPlot.paths.bars?.({ size: [0.6, 40] });
  return paths ? { paths } : {};
}

function verdict(figures: RankFigures, now: number): string {
  const back = figures.ledger.backward_slope[now] ?? null;
  const ahead = figures.ledger.forward_slope[now] ?? null;
  if (back === null && ahead === null) return "too few layers were measured for a slope.";
  const parts = [
    back === null ? "" : `gradients gain ${slopeText(back)} a layer on their way back (×${factor(back)})`,
    ahead === null ? "" : `activations ${slopeText(ahead)} a layer on their way forward (×${factor(ahead)})`,
  ];
  return `${parts.filter(Boolean).join(", ")}. Above 0 bits (a factor of 1) they explode, below they vanish.`;
}

function factor(bits: number): string {
  return Number((2 ** bits).toPrecision(3)).toString();
}

function layerTable(names: readonly string[], ups: Column, downs: Column, left: Column): HTMLElement {
  const text = (value: number | null): string => {
    if (value === null) return "–";
    if (value === Number.POSITIVE_INFINITY) return "inf";
    return value === Number.NEGATIVE_INFINITY ? "0" : bitsText(value);
  };
  const rows = names.map((name, i) => [
    element("code", {}, `${i + 1} ${name}`),
    text(ups[i] ?? null),
    text(downs[i] ?? null),
    text(left[i] ?? null),
  ]);
  return table("levels of the layers", ["layer", "activations", "gradients", "headroom"], rows);
}
