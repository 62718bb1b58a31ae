/** The bar that stays in sight: what lies under the cursor, the slider over sampled steps, the filter. */

import type { RankFigures, Report } from "./data";
import { element } from "./page";
import { sampledAt, type Store } from "./store";

export interface Controls {
  bar: HTMLElement;
  readout: HTMLOutputElement;
  /** Take the steps and modules of another rank. */
  take: (figures: RankFigures) => void;
}

export function controls(store: Store): Controls {
  const readout = element("output", { class: "readout" });
  const slider = element("input", { type: "range", id: "step", min: "0", step: "1" });
  const chosen = element("output", { for: "step", class: "chosen" });
  const filter = element("input", {
    type: "search", id: "filter", list: "modules", placeholder: "all modules", autocomplete: "off",
  });
  const modules = element("datalist", { id: "modules" });
  let steps: number[] = [];
  const show = (): void => {
    const { step } = store.view;
    const at = sampledAt(steps, step);
    slider.value = String(at);
    chosen.textContent = `step ${step.toLocaleString("en")}`;
    slider.setAttribute("aria-valuetext", chosen.textContent);
    if (filter.value !== store.view.filter) filter.value = store.view.filter;
  };
  slider.addEventListener("input", () => store.set({ step: steps[Number(slider.value)] ?? 0 }));
  filter.addEventListener("input", () => store.set({ filter: filter.value }));
  store.listen(show);
  const bar = element(
    "div",
    { class: "controls", role: "group", "aria-label": "what the pictures show" },
    readout,
    element("span", { class: "control" }, element("label", { for: "step" }, "Sampled step"), slider, chosen),
    element("span", { class: "control" }, element("label", { for: "filter" }, "Module"), filter, modules),
  );
  const take = (figures: RankFigures): void => {
    steps = sampledSteps(figures);
    slider.max = String(Math.max(0, steps.length - 1));
    slider.disabled = steps.length < 2;
    const names = new Set(figures.tensors.map((each) => each.module ?? "").filter(Boolean));
    modules.replaceChildren(...[...names].map((value) => element("option", { value })));
    show();
  };
  return { bar, readout, take };
}

/** Return all steps of which any picture has a sample. */
export function sampledSteps(figures: RankFigures): number[] {
  const times = figures.times.samples.map((each) => each.step);
  return [...new Set([...figures.ledger.steps, ...times, ...figures.ratios.steps])].sort((a, b) => a - b);
}

export function rankChoice(report: Report, choose: (rank: RankFigures) => void): HTMLElement[] {
  if (report.ranks_in_all < 2) return [];
  const select = element("select", { id: "rank" });
  for (const each of report.ranks) {
    select.append(element("option", { value: String(each.rank) }, each.name));
  }
  select.addEventListener("change", () => {
    const chosen = report.ranks.find((each) => String(each.rank) === select.value);
    if (chosen) choose(chosen);
  });
  const missing = report.ranks_in_all - report.ranks.length;
  const note = missing > 0 ? ` ${missing} more processes are in the run's folder only.` : "";
  return [element("p", {}, element("label", { for: "rank" }, "Pictures of "), select, note)];
}
