/** The report: the answers first, then the pictures, which share cursor, zoom and marks. */

import uPlot from "uplot";
import uplotStyle from "uplot/dist/uPlot.min.css";
import {
  binOf,
  bitsText,
  cellText,
  numberText,
  type RankFigures,
  readReport,
  type Report,
  type Symptom,
} from "./data";
import { type Heatmap, heatmap } from "./heatmap";
import { type Frame, lineChart, scaleOf } from "./lines";
import { command, element } from "./page";
import style from "./style.css";
import { darkQuery, theme, viridis } from "./theme";

const NARROW = 640;

function main(): void {
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(uplotStyle + style);
  document.adoptedStyleSheets = [sheet];
  const report = readReport();
  const pictures = element("section", { "aria-label": "pictures", class: "pictures" });
  let shownRank = report.ranks[0];
  const charts: uPlot[] = [];
  const draw = (): void => {
    for (const chart of charts.splice(0)) chart.destroy();
    if (shownRank) charts.push(...drawPictures(pictures, report, shownRank));
  };
  const show = (symptom: Symptom): void => {
    const rank = Number(symptom.evidence["rank"] ?? shownRank?.rank ?? 0);
    const wanted = report.ranks.find((each) => each.rank === rank);
    if (wanted && wanted !== shownRank) {
      shownRank = wanted;
      draw();
    }
    if (shownRank) moveTo(charts, shownRank, symptom.step);
  };
  const root = document.getElementById("report");
  root?.append(
    ...head(report),
    symptomList(report, show),
    rankChoice(report, (rank) => {
      shownRank = rank;
      draw();
    }),
    pictures,
    ...facts(report),
  );
  draw();
  darkQuery.addEventListener("change", draw);
  let width = pictures.clientWidth;
  new ResizeObserver(() => {
    if (pictures.clientWidth === width) return;
    width = pictures.clientWidth;
    draw();
  }).observe(pictures);
}

function head(report: Report): HTMLElement[] {
  const answers = element("dl", { class: "answers" });
  const answer = (label: string, ...said: (Node | string)[]): void => {
    answers.append(element("dt", {}, label), element("dd", {}, ...said));
  };
  for (const { label, text, main } of report.answers) {
    answer(label, main ? element("strong", {}, text) : text);
  }
  if (report.verdict !== "healthy" && report.growing.length) {
    const rows = report.growing.map((each) =>
      element(
        "div",
        {},
        element("code", {}, each.name),
        ` ${bitsText(each.slope_bits_per_step)} a step, ` +
          `${each.headroom_bits.toFixed(0)} left of ${each.dtype}`,
      ),
    );
    answer("grows", ...rows);
  }
  if (report.next.length) answer("next", ...report.next.map(command));
  return [
    element(
      "header",
      { class: report.verdict },
      element("span", { class: "product" }, "gainstage"),
      element("h1", {}, report.script),
      element("span", { class: "extent" }, report.extent),
      element("span", { class: "verdict" }, report.verdict_text),
    ),
    ...report.damage.map((each) => element("p", { class: "damage", role: "note" }, each)),
    answers,
  ];
}

function symptomList(report: Report, show: (symptom: Symptom) => void): HTMLElement {
  if (!report.symptoms.length) {
    return element("p", { class: "quiet" }, "No symptom was seen.");
  }
  const list = element("ol", { class: "symptoms", "aria-label": "symptoms" });
  for (const symptom of report.symptoms) {
    const button = element(
      "button",
      { type: "button", class: symptom.severity, title: "show this step in the pictures" },
      element("span", { class: "severity" }, symptom.severity),
      element("span", { class: "id" }, symptom.symptom),
      element("span", { class: "at" }, `step ${symptom.step.toLocaleString("en")}`),
      element("span", { class: "message" }, symptom.message),
    );
    button.addEventListener("click", () => show(symptom));
    list.append(element("li", {}, button));
  }
  return list;
}

function rankChoice(report: Report, choose: (rank: RankFigures) => void): HTMLElement {
  if (report.ranks_in_all < 2) return element("div");
  const select = element("select", { id: "rank" });
  for (const each of report.ranks) {
    select.append(element("option", { value: String(each.rank) }, `rank ${each.rank}`));
  }
  select.addEventListener("change", () => {
    const chosen = report.ranks.find((each) => String(each.rank) === select.value);
    if (chosen) choose(chosen);
  });
  const missing = report.ranks_in_all - report.ranks.length;
  const note = missing > 0 ? ` ${missing} more ranks are in the run's folder only.` : "";
  return element("p", {}, element("label", { for: "rank" }, "Pictures of "), select, note);
}

function drawPictures(place: HTMLElement, report: Report, figures: RankFigures): uPlot[] {
  const room = place.clientWidth;
  const longest = Math.max(0, ...figures.tensors.map((each) => each.name.length));
  const axis = room < NARROW ? 48 : Math.min(Math.max(longest * 6 + 20, 64), 220);
  const readout = element("output", { class: "readout" });
  const loss = element("figure", { id: "loss" });
  const norm = element("figure", { id: "norm" });
  const map = element("figure", { id: "heatmap" });
  place.replaceChildren(readout, loss, norm, map);
  if (!figures.step.length) {
    place.replaceChildren(element("p", { class: "quiet" }, "No step is on record."));
    return [];
  }
  const symptoms = report.symptoms.filter(
    (each) => (each.evidence["rank"] ?? figures.rank) === figures.rank,
  );
  const charts: uPlot[] = [];
  let zooming = false;
  const frame: Frame = {
    width: room,
    axis,
    sync: uPlot.sync("steps"),
    onZoom: (source) => {
      const { min, max } = source.scales["x"] ?? {};
      if (zooming || min == null || max == null) return;
      zooming = true;
      for (const chart of charts) if (chart !== source) chart.setScale("x", { min, max });
      place.setAttribute("aria-label", `pictures of steps ${Math.ceil(min)} to ${Math.floor(max)}`);
      zooming = false;
    },
  };
  title(loss, "Loss");
  charts.push(
    lineChart(loss, figures, symptoms, frame, {
      band: figures.loss,
      height: 190,
      scale: scaleOf(figures.loss),
      format: numberText,
    }),
  );
  const limited = figures.max_norm_bits.maximum.some((each) => each !== null);
  title(
    norm,
    "Global gradient norm, in bits (log2), before clipping",
    limited ? key(theme().limit, "max_norm of the clipping") : "",
  );
  charts.push(
    lineChart(norm, figures, symptoms, frame, {
      band: figures.norm_bits,
      ...(limited ? { limit: figures.max_norm_bits } : {}),
      height: 190,
      scale: "linear",
      format: (value) => `${value > 0 ? "+" : ""}${numberText(value)}`,
    }),
  );
  const heading = title(map, "Gradient norm of every tensor, in bits");
  const drawn = heatmap(map, figures, symptoms, frame);
  charts.push(drawn.chart);
  heading.append(scaleKey(drawn.range));
  for (const chart of charts) {
    chart.over.addEventListener("mousemove", () => read(readout, chart, figures, drawn));
    chart.hooks["setCursor"] = [() => read(readout, chart, figures, drawn)];
  }
  readout.textContent = "Point at a step to read it; drag to zoom, double-click for all of it.";
  return charts;
}

function title(figure: HTMLElement, text: string, ...more: (Node | string)[]): HTMLElement {
  const caption = element("figcaption", {}, element("span", {}, text), ...more);
  figure.append(caption);
  return caption;
}

function key(colour: string, text: string): HTMLElement {
  const swatch = element("i", { class: "swatch" });
  swatch.style.background = colour;
  return element("span", { class: "key" }, swatch, text);
}

function scaleKey(range: [number, number]): HTMLElement {
  const ramp = element("i", { class: "ramp" });
  const stops = [0, 0.25, 0.5, 0.75, 1].map((share) => `rgb(${viridis(share).join(",")})`);
  ramp.style.background = `linear-gradient(to right, ${stops.join(",")})`;
  const colours = theme();
  return element(
    "span",
    { class: "scale" },
    element("span", { class: "key" }, bitsText(range[0]), ramp, bitsText(range[1])),
    key(colours.inf, "inf"),
    key(colours.nan, "NaN"),
    key(colours.empty, "none"),
  );
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
    const code = map.cells[row * figures.step.length + bin];
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
function moveTo(charts: uPlot[], figures: RankFigures, step: number): void {
  const first = figures.step[0] ?? 0;
  const all = figures.last_step - first;
  const around = Math.max(all / 8, 10);
  const min = Math.max(first, step - around);
  const max = Math.min(figures.last_step, step + around);
  const chart = charts[0];
  if (!chart || max <= min) return;
  chart.setScale("x", { min, max });
  for (const each of charts) each.setCursor({ left: each.valToPos(step, "x"), top: 1 });
  chart.root.scrollIntoView({ block: "nearest" });
}

function facts(report: Report): HTMLElement[] {
  const list = element("dl", { class: "facts" });
  for (const [name, text] of [...report.facts, ["record", report.folder] as const]) {
    list.append(element("dt", {}, name), element("dd", {}, element("code", {}, text)));
  }
  return [element("h2", {}, "How it ran"), list];
}

main();
