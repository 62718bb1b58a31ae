/** Several runs over each other: loss and global norm, step by step. */

import uPlot from "uplot";
import { fetchTile, type RunRow, type StepRange, steady, type Tile } from "./api";
import { type Band, numberText } from "./data";
import { type Frame, cursor, grid, scaleOf, xAxis } from "./lines";
import { verdictWord } from "./list";
import { nonfiniteMarks } from "./marks";
import { element, key, title } from "./page";
import { darkQuery, theme } from "./theme";
import type { View } from "./view";

interface Compared {
  row: RunRow;
  tile: Tile;
}

/** Show runs over each other; a zoom fetches that stretch of each. */
export function compareView(place: HTMLElement, rows: RunRow[], failed: (error: unknown) => void): View {
  let charts: uPlot[] = [];
  let shown: Compared[] = [];
  let range: StepRange = null;
  const names = new Set(rows.map((each) => each.name));
  const readout = element("output", { class: "readout" });
  const pictures = element("section", { "aria-label": "pictures", class: "pictures" });
  const legend = element("ul", { class: "legend", "aria-label": "runs compared" });
  place.replaceChildren(
    element("header", {}, element("span", { class: "product" }, "gainstage"), element("h1", {}, `${rows.length} runs compared`)),
    legend,
    readout,
    pictures,
  );
  const draw = (): void => {
    for (const each of charts) each.destroy();
    legend.replaceChildren(...shown.map(({ row }, i) => legendOf(row, i)));
    const [loss, norm] = [element("figure", { id: "loss" }), element("figure", { id: "norm" })];
    pictures.replaceChildren(loss, norm);
    title(loss, "Loss");
    title(norm, "Global gradient norm, in bits (log2), before clipping");
    const frame: Frame = {
      width: pictures.clientWidth,
      axis: pictures.clientWidth < 640 ? 48 : 72,
      sync: uPlot.sync("compared"),
      onZoom,
    };
    charts = [
      overlay(loss, shown, (tile) => tile.loss, frame, true),
      overlay(norm, shown, (tile) => tile.norm_bits, frame, false),
    ];
    for (const chart of charts) chart.hooks["setCursor"] = [() => read(readout, chart, shown)];
    if (range) zoomTo(range[0], range[1]);
  };
  let zooming = false;
  const zoomTo = (min: number, max: number, source?: uPlot): void => {
    zooming = true;
    for (const chart of charts) if (chart !== source) chart.setScale("x", { min, max });
    zooming = false;
  };
  const onZoom = (source: uPlot): void => {
    const { min, max } = source.scales["x"] ?? {};
    if (zooming || min == null || max == null) return;
    const steps = source.data[0];
    const isWhole = min <= (steps[0] ?? 0) && max >= (steps.at(-1) ?? 0);
    zoomTo(min, max, source);
    const [first, last] = range ?? [];
    if (isWhole && !range) return;
    if (first === Math.ceil(min) && last === Math.floor(max)) return;
    range = isWhole ? null : [Math.max(0, Math.ceil(min)), Math.floor(max)];
    load();
  };
  const load = steady(async () => {
    shown = await Promise.all(
      rows.map(async (row) => ({ row, tile: await fetchTile(row.name, 0, range, true) })),
    );
    draw();
  }, failed);
  pictures.addEventListener("dblclick", () => {
    range = null;
    load();
  });
  let width = 0;
  const observer = new ResizeObserver(() => {
    if (pictures.clientWidth === width || !shown.length) return;
    width = pictures.clientWidth;
    draw();
  });
  observer.observe(pictures);
  darkQuery.addEventListener("change", draw);
  load();
  return {
    changed: (changed) => {
      if ([...changed].some((each) => names.has(each))) load();
    },
    end: () => {
      darkQuery.removeEventListener("change", draw);
      observer.disconnect();
      for (const each of charts) each.destroy();
    },
  };
}

function colour(place: number): string {
  return theme().several[place % theme().several.length] ?? "";
}

function legendOf(row: RunRow, place: number): HTMLElement {
  const link = element("a", { href: `#${new URLSearchParams({ run: row.name }).toString()}` }, row.name);
  const said = [row.script, ...row.treat.map((each) => `--treat ${each}`)].join(" ");
  return element("li", { class: row.verdict }, key(colour(place), ""), link,
    element("span", { class: "quiet" }, said), element("span", { class: "verdict" }, verdictWord(row)));
}

function overlay(
  place: HTMLElement,
  shown: readonly Compared[],
  pick: (tile: Tile) => Band,
  frame: Frame,
  mayBeLog: boolean,
): uPlot {
  const colours = theme();
  const bands = shown.map(({ tile }) => pick(tile));
  const all: Band = {
    minimum: bands.flatMap((each) => each.minimum),
    maximum: bands.flatMap((each) => each.maximum),
    nan: [],
    inf: [],
  };
  const scale = mayBeLog ? scaleOf(all) : "linear";
  const data = uPlot.join(
    shown.map(({ tile }, i): uPlot.AlignedData => [
      tile.step,
      bands[i]?.maximum ?? [],
      bands[i]?.minimum ?? [],
    ]),
  );
  const series: uPlot.Series[] = shown.flatMap((_, i) => [
    { stroke: colour(i), width: 1.5, points: { show: false } },
    { stroke: colour(i), width: 1, points: { show: false } },
  ]);
  return new uPlot(
    {
      width: frame.width,
      height: 260,
      legend: { show: false },
      cursor: cursor(frame),
      scales: {
        x: { time: false },
        y: {
          distr: scale === "log" ? 3 : scale === "arcsinh" ? 4 : 1,
          ...(all.maximum.some((each) => each !== null) ? {} : { range: [0, 1] as [number, number] }),
        },
      },
      axes: [
        xAxis(),
        {
          size: frame.axis,
          stroke: colours.text,
          grid: grid(scale),
          ticks: { show: false },
          values: (_, splits) => splits.map((each) => (each === null ? "" : numberText(each))),
        },
      ],
      series: [{}, ...series],
      bands: shown.map((_, i) => ({ series: [2 * i + 1, 2 * i + 2], fill: `${colour(i)}33` })),
      plugins: shown.map(({ tile }, i) =>
        nonfiniteMarks(() => ({ step: tile.step, band: bands[i] ?? all, colour: colour(i), line: i })),
      ),
      hooks: { setScale: [(chart, scaleKey) => scaleKey === "x" && frame.onZoom(chart)] },
    },
    data,
    place,
  );
}

/** Say what each run has under the cursor. */
function read(readout: HTMLElement, chart: uPlot, shown: readonly Compared[]): void {
  const { left } = chart.cursor;
  if (left == null || left < 0) return;
  const step = Math.round(chart.posToVal(left, "x"));
  const said = shown.map(({ row, tile }) => {
    const bin = tile.step.filter((each) => each <= step).length - 1;
    const over = step > tile.last_step || bin < 0;
    const value = tile.loss.nan.includes(bin) ? "NaN" : tile.loss.inf.includes(bin) ? "inf" : tile.loss.maximum[bin];
    const bits = tile.norm_bits.maximum[bin];
    return `${row.name}: ${over ? "no such step" : `loss ${text(value)}, ‖g‖ ${text(bits)} bits`}`;
  });
  readout.textContent = [`step ${step.toLocaleString("en")}`, ...said].join("   ");
}

function text(value: number | string | null | undefined): string {
  return typeof value === "number" ? numberText(value) : (value ?? "–");
}
