/** One run: the answers first, then the pictures, then all the rest. Kept as it is while it grows. */

import { controls, rankChoice, sampledSteps } from "./controls";
import type { RankFigures, Report, Symptom } from "./data";
import { head, symptomList } from "./head";
import { element } from "./page";
import {
  drawSampledCharts,
  drawOverSteps,
  type Callbacks,
  type StepPictures,
  moveTo,
  type Window,
} from "./pictures";
import type { SampledChart } from "./depth";
import { autopsy, clipping, facts, treatments } from "./sections";
import { makeStore } from "./store";
import { darkQuery } from "./theme";
import { stepsOf } from "./tiles";

export interface RunPage {
  nodes: HTMLElement[];
  /** Draw for the first time; the nodes must be on the page. */
  start: () => void;
  /** Take what is said of the run now. */
  update: (report: Report) => void;
  /** Take the figures over steps, which have changed in place. */
  refresh: () => void;
  /** Let go of everything that hears of the window's size and colours. */
  end: () => void;
}

export interface Hooks extends Callbacks {
  /** The figures of a rank are wanted. */
  rank: (figures: RankFigures) => void;
}

/** Return the page of a run whose report may be updated. */
export function runPage(first: Report, hooks: Hooks): RunPage {
  let report = first;
  let figures = report.ranks[0];
  let over: StepPictures = { charts: [], update: () => false, show: () => undefined };
  let sampledCharts: SampledChart[] = [];
  let window: Window = null;
  const slot = (name: string): HTMLElement => element("div", { class: `part ${name}` });
  const slots = { head: slot("head"), symptoms: slot("list"), ranks: slot("ranks"), treated: slot("treated"), facts: slot("how") };
  const stepPlace = element("div", {});
  const samplePlace = element("div", {});
  const pictures = element("section", { "aria-label": "pictures", class: "pictures" }, stepPlace, samplePlace);
  const below = element("section", { "aria-label": "autopsy and clipping" });
  const store = makeStore({ step: firstStep(report, figures), filter: "", order: "depth" });
  const bar = controls(store);
  const filter = (module: string): void => store.set({ filter: module });

  const drawSteps = (): void => {
    for (const { chart } of over.charts) chart.destroy();
    const wanted = window;
    const callbacks: Callbacks = {
      window: (now) => {
        window = now;
        hooks.window(now);
      },
    };
    if (figures) over = drawOverSteps(stepPlace, bar.readout, () => report.symptoms, figures, store, callbacks);
    if (wanted) over.show(wanted);
  };
  const drawSamples = (): void => {
    for (const chart of sampledCharts.flatMap((each) => each.charts)) chart.destroy();
    if (figures) sampledCharts = drawSampledCharts(samplePlace, figures, store);
  };
  const draw = (): void => {
    drawSteps();
    drawSamples();
  };
  const take = (chosen: RankFigures | undefined): void => {
    figures = chosen;
    window = null;
    if (!figures) return;
    hooks.rank(figures);
    bar.take(figures);
    sayBelow();
    draw();
  };
  const show = (symptom: Symptom): void => {
    const rank = Number(symptom.evidence.rank ?? figures?.rank ?? 0);
    const wanted = report.ranks.find((each) => each.rank === rank);
    if (wanted && wanted !== figures) take(wanted);
    store.set({ step: symptom.step });
    if (figures) moveTo(over.charts, figures, symptom.step);
  };
  const sayBelow = (): void => {
    if (figures) render(below, [report.diagnosis, figures.faults, figures.clips], () =>
      figures ? [...autopsy(report, figures, filter), ...clipping(figures)] : []);
  };
  const say = (): void => {
    const { answers, growing, treat, next, damage, verdict_text, extent, diagnosis } = report;
    render(slots.head, [answers, growing, treat, next, damage, verdict_text, extent, diagnosis],
      () => head(report, filter));
    render(slots.symptoms, report.symptoms, () => [symptomList(report, show)]);
    render(slots.ranks, report.ranks.map((each) => each.rank), () => rankChoice(report, take));
    render(slots.treated, [report.treatments, report.trials], () => treatments(report));
    render(slots.facts, [report.facts, report.folder], () => facts(report));
    sayBelow();
  };
  const update = (now: Report): void => {
    const before = figures && sampled(figures);
    // The figures over steps stay: they come as tiles.
    now.ranks = now.ranks.map((each) => {
      const known = report.ranks.find((other) => other.rank === each.rank);
      return known ? Object.assign(known, each, stepsOf(known)) : each;
    });
    report = now;
    say();
    if (figures && sampled(figures) !== before) {
      bar.take(figures);
      draw();
    } else for (const { chart } of over.charts) chart.redraw(false);
  };
  const refresh = (): void => {
    if (!over.charts.length || !over.update()) draw();
  };
  store.listen((changed) => {
    if (changed.has("filter") || changed.has("order")) draw();
    else {
      for (const { chart } of over.charts) chart.redraw(false);
      for (const each of sampledCharts) each.update();
    }
  });
  let width = 0;
  const observer = new ResizeObserver(() => {
    if (pictures.clientWidth === width || !pictures.clientWidth) return;
    width = pictures.clientWidth;
    draw();
  });
  const start = (): void => {
    width = pictures.clientWidth;
    say();
    take(figures);
    darkQuery.addEventListener("change", draw);
    observer.observe(pictures);
  };
  const end = (): void => {
    darkQuery.removeEventListener("change", draw);
    observer.disconnect();
    for (const { chart } of over.charts) chart.destroy();
    for (const chart of sampledCharts.flatMap((each) => each.charts)) chart.destroy();
  };
  const nodes = [slots.head, slots.symptoms, slots.ranks, bar.bar, pictures, below, slots.treated, slots.facts];
  return { nodes, start, update, refresh, end };
}

/** Make a part of the page anew if what it says has changed: focus and scrolling stay otherwise. */
function render(place: HTMLElement, content: unknown, make: () => HTMLElement[]): void {
  const now = JSON.stringify(content);
  if (rendered.get(place) === now) return;
  rendered.set(place, now);
  place.replaceChildren(...make());
}

const rendered = new WeakMap<HTMLElement, string>();

/** Return what the pictures of sampled steps are drawn from, to be compared. */
function sampled(figures: RankFigures): string {
  return JSON.stringify([figures.ledger, figures.times, figures.ratios, figures.depth_order]);
}

/** Return the step to begin with: that of the worst symptom, else the last that was sampled. */
function firstStep(report: Report, figures: RankFigures | undefined): number {
  const worst = report.symptoms[0]?.step;
  return worst ?? (figures ? (sampledSteps(figures).at(-1) ?? figures.last_step) : 0);
}
