/** What somebody reads who has twenty seconds: is it sick, why, where, what to do. */

import { bitsText, type Report, type Source, type Symptom } from "./data";
import { command, element } from "./page";

export function head(report: Report, filter: (module: string) => void): HTMLElement[] {
  const answers = element("dl", { class: "answers" });
  const answer = (label: string, ...said: HTMLElement[]): void => {
    answers.append(element("dt", {}, label), element("dd", {}, ...said));
  };
  for (const { label, lines } of grouped(report)) {
    if (label === "where") lines.push(...place(report, filter));
    if (label === "fix" && report.treat) lines.push(command(report.treat));
    answer(label, ...lines);
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

/** Return the answers by label: a line without one belongs to the line before. */
function grouped(report: Report): { label: string; lines: HTMLElement[] }[] {
  const groups: { label: string; lines: HTMLElement[] }[] = [];
  for (const { label, text, main } of report.answers) {
    const line = element("div", {}, main ? element("strong", {}, text) : text);
    const last = groups.at(-1);
    if (label || !last) groups.push({ label, lines: [line] });
    else last.lines.push(line);
  }
  return groups;
}

/** Return the source around the place, the values met there, and a way to look at its module. */
function place(report: Report, filter: (module: string) => void): HTMLElement[] {
  const { source, module } = report.diagnosis ?? { source: null, module: null };
  const parts: HTMLElement[] = [];
  if (source) parts.push(...sourceLines(source));
  const fault = report.ranks.flatMap((each) => each.faults)[0];
  const isSaid = fault && report.answers.some((each) => each.text.startsWith(fault.message));
  if (fault && !isSaid) parts.push(element("p", { class: "offence" }, fault.message));
  if (module) parts.push(moduleButton(module, filter));
  return parts;
}

/** Return a button that shows one module in all pictures. */
export function moduleButton(module: string, filter: (module: string) => void): HTMLElement {
  const button = element(
    "button",
    { type: "button", class: "module", title: "show this module in the pictures" },
    module,
  );
  button.addEventListener("click", () => filter(module));
  return button;
}

function sourceLines(source: Source): HTMLElement[] {
  const lines = source.lines.map((text, i) => {
    const number = source.first + i;
    const here = number === source.line;
    return element(
      "span",
      { class: here ? "line here" : "line", ...(here ? { "aria-current": "location" } : {}) },
      element("span", { class: "number" }, `${here ? "▸" : " "}${String(number).padStart(4)} `),
      text || " ",
    );
  });
  const shown = element(
    "pre",
    { class: "source", tabindex: "0", role: "region", "aria-label": `source of ${source.file}` },
    ...lines,
  );
  if (!source.newer) return [shown];
  const note = "The file was changed after the run began: these lines may not be those that ran.";
  return [shown, element("p", { class: "quiet" }, note)];
}

export function symptomList(report: Report, show: (symptom: Symptom) => void): HTMLElement {
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
