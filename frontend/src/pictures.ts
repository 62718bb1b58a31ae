/** The pictures of one rank, which share cursor, zoom, chosen step and filter. */

import uPlot from "uplot";
import {
  binOf,
  bitsText,
  cellText,
  numberText,
  type RankFigures,
  type Symptom,
} from "./data";
import { ledger, ratios, type SampledChart } from "./depth";
import { type Heatmap, heatmap } from "./heatmap";
import { type Frame, lineChart, type OverSteps, scaleOf } from "./lines";
import { element, key, title } from "./page";
import { matching, type Store } from "./store";
import { theme, viridis } from "./theme";
import { throughTime } from "./times";

const NARROW = 640;

/** The pictures over steps, which are zoomed together. */
export interface StepPictures {
  charts: OverSteps[];
  /** Take what the figures hold now; false if they must be drawn anew. */
  update: () => boolean;
  /** Bring a range of steps into sight. */
  show: (window: Window) => void;
}

/** First and last step in sight; null for all there are. */
export type Window = [number, number] | null;

/** What a person did to the pictures over steps. */
export interface Callbacks {
  /** Other steps came into sight. */
  window: (window: Window) => void;
}

/** Draw the pictures over steps anew. */
export function drawOverSteps(
  place: HTMLElement,
  readout: HTMLElement,
  symptoms: () => readonly Symptom[],
  figures: RankFigures,
  store: Store,
  callbacks: Callbacks,
): StepPictures {
  const room = place.clientWidth;
  const made = (id: string): HTMLElement => element("figure", { id });
  const [loss, norm, map] = [made("loss"), made("norm"), made("heatmap")];
  if (!figures.step.length) {
    place.replaceChildren(element("p", { class: "quiet" }, "No step is on record."));
    return { charts: [], update: () => figures.step.length === 0, show: () => undefined };
  }
  place.replaceChildren(loss, norm, map);
  const charts: OverSteps[] = [];
  const mine = (): Symptom[] =>
    symptoms().filter((each) => (each.evidence.rank ?? figures.rank) === figures.rank);
  const all = (): [number, number] => [figures.step[0] ?? 0, figures.step.at(-1) ?? 0];
  let isWhole = true;
  let zooming = false;
  const zoomAll = (min: number, max: number, source?: uPlot): void => {
    zooming = true;
    for (const { chart } of charts) if (chart !== source) chart.setScale("x", { min, max });
    zooming = false;
    place.parentElement?.setAttribute(
      "aria-label",
      `pictures of steps ${Math.ceil(min)} to ${Math.floor(max)}`,
    );
  };
  const frame: Frame = {
    width: room,
    axis: axisWidth(room, figures),
    sync: uPlot.sync("steps"),
    onZoom: (source) => {
      const { min, max } = source.scales["x"] ?? {};
      if (zooming || min == null || max == null) return;
      const [first, last] = all();
      isWhole = min <= first && max >= last;
      zoomAll(min, max, source);
      callbacks.window(isWhole ? null : [Math.ceil(min), Math.floor(max)]);
    },
  };
  const scale = scaleOf(figures.loss);
  title(loss, "Loss");
  charts.push(
    lineChart(loss, figures, mine, frame, {
      band: (now) => now.loss,
      height: 190,
      scale,
      format: numberText,
    }, store),
  );
  const limited = isLimited(figures);
  title(
    norm,
    "Global gradient norm, in bits (log2), before clipping",
    limited ? key(theme().limit, "max_norm of the clipping") : "",
  );
  charts.push(
    lineChart(norm, figures, mine, frame, {
      band: (now) => now.norm_bits,
      ...(limited ? { limit: (now: RankFigures) => now.max_norm_bits } : {}),
      height: 190,
      scale: "linear",
      format: (value) => `${value > 0 ? "+" : ""}${numberText(value)}`,
    }, store),
  );
  const shown = shownTensors(figures, store);
  const heading = title(map, "Gradient norm of every tensor, in bits", orderChoice(store));
  const colours = element("span", { class: "scale" });
  heading.append(colours);
  let drawn: Heatmap | null = null;
  if (shown.length) {
    drawn = heatmap(map, figures, shown, mine, frame, store);
    charts.push(drawn);
    colours.replaceChildren(...scaleKey(drawn.image.range));
    for (const { chart } of charts) listen(chart, readout, figures, drawn, store);
  } else {
    map.append(element("p", { class: "quiet" }, "No tensor is called so."));
  }
  readout.textContent = "Point at a step to read it, click to choose it; drag to zoom, double-click for all.";
  const tensors = figures.tensors.length;
  const update = (): boolean => {
    const isOther = scaleOf(figures.loss) !== scale || isLimited(figures) !== limited;
    if (isOther || figures.tensors.length !== tensors) return false;
    const { min, max } = charts[0]?.chart.scales["x"] ?? {};
    for (const each of charts) each.update();
    if (drawn) colours.replaceChildren(...scaleKey(drawn.image.range));
    const [first, last] = isWhole ? all() : [min ?? 0, max ?? 0];
    zoomAll(first, last);
    return true;
  };
  const show = (window: Window): void => {
    const [min, max] = window ?? all();
    charts[0]?.chart.setScale("x", { min, max });
  };
  return { charts, update, show };
}

/** Draw the pictures of sampled steps anew. */
export function drawSampledCharts(place: HTMLElement, figures: RankFigures, store: Store): SampledChart[] {
  const room = place.clientWidth;
  const axis = axisWidth(room, figures);
  const made = (id: string): HTMLElement => element("figure", { id });
  const [depth, time, update] = [made("ledger"), made("times"), made("ratios")];
  place.replaceChildren(depth, time, update);
  if (!figures.step.length) {
    place.replaceChildren();
    return [];
  }
  return [
    ledger(depth, figures, store, room, axis),
    throughTime(time, figures, store, room, axis),
    ratios(update, figures, shownTensors(figures, store), store, room, axis),
  ];
}

function axisWidth(room: number, figures: RankFigures): number {
  const longest = Math.max(0, ...figures.tensors.map((each) => each.name.length));
  return room < NARROW ? 48 : Math.min(Math.max(longest * 6 + 20, 64), 220);
}

function isLimited(figures: RankFigures): boolean {
  return figures.max_norm_bits.maximum.some((each) => each !== null);
}

function shownTensors(figures: RankFigures, store: Store): number[] {
  const wanted = matching(figures.tensors, store.view.filter);
  const order = store.view.order === "depth" ? figures.depth_order : [...figures.tensors.keys()];
  return order.filter((each) => wanted.has(each));
}

function orderChoice(store: Store): HTMLElement {
  const select = element(
    "select",
    { "aria-label": "order of the tensors" },
    element("option", { value: "depth" }, "in the order in which they run"),
    element("option", { value: "model" }, "as the model holds them"),
  );
  select.value = store.view.order;
  select.addEventListener("change", () => {
    store.set({ order: select.value === "model" ? "model" : "depth" });
  });
  return select;
}

/** Read what lies under the cursor; a click chooses its step, a drag zooms. */
function listen(
  chart: uPlot,
  readout: HTMLElement,
  figures: RankFigures,
  map: Heatmap,
  store: Store,
): void {
  let pressed = 0;
  chart.hooks["setCursor"] = [() => read(readout, chart, figures, map)];
  chart.over.addEventListener("mousemove", () => read(readout, chart, figures, map));
  chart.over.addEventListener("mousedown", (event) => {
    pressed = event.clientX;
  });
  chart.over.addEventListener("click", (event) => {
    if (Math.abs(event.clientX - pressed) > 3) return;
    const at = chart.posToVal(event.clientX - chart.over.getBoundingClientRect().left, "x");
    store.set({ step: figures.step[binOf(figures.step, Math.round(at))] ?? 0 });
  });
}

function scaleKey(range: [number, number]): HTMLElement[] {
  const ramp = element("i", { class: "ramp" });
  const stops = [0, 0.25, 0.5, 0.75, 1].map((share) => `rgb(${viridis(share).join(",")})`);
  ramp.style.background = `linear-gradient(to right, ${stops.join(",")})`;
  const colours = theme();
  return [
    element("span", { class: "key" }, bitsText(range[0]), ramp, bitsText(range[1])),
    key(colours.inf, "inf"),
    key(colours.nan, "NaN"),
    key("#000000", "0"),
    key(colours.empty, "none"),
  ];
}

/** Say what lies under the cursor. */
function read(readout: HTMLElement, chart: uPlot, figures: RankFigures, map: Heatmap): void {
  const { left, top } = chart.cursor;
  if (left == null || left < 0) return;
  const bin = binOf(figures.step, Math.round(chart.posToVal(left, "x")));
  const first = figures.step[bin] ?? 0;
  const next = figures.step[bin + 1] ?? figures.last_step + 1;
  const when = next - first > 1 ? `steps ${first}–${next - 1}` : `step ${first}`;
  const said = [
    when,
    `loss ${valueAt(figures.loss, bin, numberText)}`,
    `‖g‖ ${valueAt(figures.norm_bits, bin, bitsText)}`,
  ];
  const row = chart === map.chart && top != null ? map.tensorAt(top) : null;
  if (row !== null) {
    const code = map.image.cells[row * figures.step.length + bin];
    said.push(`${figures.tensors[row]?.name ?? ""} ${cellText(code ?? 0)}`);
  }
  readout.textContent = said.join("   ");
}

function valueAt(
  band: RankFigures["loss"],
  bin: number,
  format: (value: number) => string,
): string {
  if (band.nan.includes(bin)) return "NaN";
  if (band.inf.includes(bin)) return "inf";
  const high = band.maximum[bin];
  const low = band.minimum[bin];
  if (high == null || low == null) return "–";
  return high === low ? format(high) : `${format(low)} … ${format(high)}`;
}

/** Bring a step into all pictures: a quarter of the run around it, the cursor upon it. */
export function moveTo(charts: readonly OverSteps[], figures: RankFigures, step: number): void {
  const first = figures.step[0] ?? 0;
  const all = figures.last_step - first;
  const around = Math.max(all / 8, 10);
  const min = Math.max(first, step - around);
  const max = Math.min(figures.last_step, step + around);
  const chart = charts[0]?.chart;
  if (!chart || max <= min) return;
  chart.setScale("x", { min, max });
  for (const { chart: each } of charts) each.setCursor({ left: each.valToPos(step, "x"), top: 1 });
  chart.root.scrollIntoView({ block: "nearest" });
}

