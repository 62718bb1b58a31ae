/** The report: the answers first, then the pictures, then all the rest. */

import uplotStyle from "uplot/dist/uPlot.min.css";
import { controls, rankChoice, sampledSteps } from "./controls";
import { type RankFigures, readReport, type Report, type Symptom } from "./data";
import { head, symptomList } from "./head";
import { element } from "./page";
import { drawPictures, moveTo, type Pictures } from "./pictures";
import { autopsy, clipping, facts, treatments } from "./sections";
import { makeStore } from "./store";
import style from "./style.css";
import { darkQuery } from "./theme";

function main(): void {
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(uplotStyle + style);
  document.adoptedStyleSheets = [sheet];
  const report = readReport();
  const pictures = element("section", { "aria-label": "pictures", class: "pictures" });
  const below = element("section", { "aria-label": "autopsy and clipping" });
  let figures = report.ranks[0];
  let drawn: Pictures = { overSteps: [], moving: [] };
  const store = makeStore({ step: firstStep(report, figures), filter: "", order: "depth" });
  const bar = controls(store);
  const filter = (module: string): void => store.set({ filter: module });
  const draw = (): void => {
    for (const each of [...drawn.overSteps, ...drawn.moving.flatMap((m) => m.charts)]) each.destroy();
    if (figures) drawn = drawPictures(pictures, bar.readout, report, figures, store);
  };
  const take = (chosen: RankFigures | undefined): void => {
    figures = chosen;
    if (!figures) return;
    bar.take(figures);
    below.replaceChildren(...autopsy(report, figures, filter), ...clipping(figures));
    draw();
  };
  const show = (symptom: Symptom): void => {
    const rank = Number(symptom.evidence["rank"] ?? figures?.rank ?? 0);
    const wanted = report.ranks.find((each) => each.rank === rank);
    if (wanted && wanted !== figures) take(wanted);
    store.set({ step: symptom.step });
    if (figures) moveTo(drawn.overSteps, figures, symptom.step);
  };
  store.listen((changed) => {
    if (changed.has("filter") || changed.has("order")) draw();
    else {
      for (const each of drawn.overSteps) each.redraw(false);
      for (const each of drawn.moving) each.update();
    }
  });
  document.getElementById("report")?.append(
    ...head(report, filter),
    symptomList(report, show),
    ...rankChoice(report, take),
    bar.bar,
    pictures,
    below,
    ...treatments(report),
    ...facts(report),
  );
  take(figures);
  darkQuery.addEventListener("change", draw);
  let width = pictures.clientWidth;
  new ResizeObserver(() => {
    if (pictures.clientWidth === width) return;
    width = pictures.clientWidth;
    draw();
  }).observe(pictures);
}

/** Return the step to begin with: that of the worst symptom, else the last that was sampled. */
function firstStep(report: Report, figures: RankFigures | undefined): number {
  const worst = report.symptoms[0]?.step;
  return worst ?? (figures ? (sampledSteps(figures).at(-1) ?? figures.last_step) : 0);
}

main();
