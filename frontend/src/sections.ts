/** What stands below the pictures: autopsy, clipping, treatments and trials, how it ran. */

import type { Diagnosis, Fault, RankFigures, Report, Trials } from "./data";
import { moduleButton } from "./head";
import { element, table } from "./page";

type Filter = (module: string) => void;

export function autopsy(report: Report, figures: RankFigures, filter: Filter): HTMLElement[] {
  const parts: HTMLElement[] = [];
  if (report.diagnosis) parts.push(...causes(report.diagnosis));
  figures.faults.forEach((fault, i) => parts.push(...faultParts(fault, i === 0, filter)));
  return parts.length ? [element("h2", {}, "Autopsy"), ...parts] : [];
}

function causes(diagnosis: Diagnosis): HTMLElement[] {
  const ranked = [diagnosis, ...diagnosis.alternatives].map((each) => {
    const bar = element("meter", { min: "0", max: "1", value: String(each.confidence),
      "aria-label": `confidence in ${each.cause}` });
    return [each.words, element("code", {}, each.cause), bar, each.confidence.toFixed(2)];
  });
  const evidence = diagnosis.evidence.map((each) => [
    `${each.bits > 0 ? "+" : ""}${each.bits}`.replace("-", "−"),
    each.text,
    element("code", {}, each.evidence),
  ]);
  const remedies = diagnosis.remedies.map((each) => [
    each.treat === null ? each.remedy : element("code", {}, `--treat ${each.treat}`),
    each.why,
  ]);
  return [
    table("causes by confidence", ["cause", "id", "", "confidence"], ranked),
    element("h3", {}, "Evidence, and the bits that it adds to the cause"),
    table("evidence", ["bits", "what was seen", "row of the table"], evidence),
    element("h3", {}, "Remedies, in the order in which to try them"),
    table("remedies", ["remedy", "why"], remedies),
  ];
}

function faultParts(fault: Fault, isFirst: boolean, filter: Filter): HTMLElement[] {
  const links = fault.chain.map(([op, module, place]) =>
    element(
      "li",
      {},
      element("code", {}, op),
      ...(module ? [" ", moduleButton(module, filter)] : []),
      ` ${place}`,
    ),
  );
  if (fault.longer) links.push(element("li", {}, `and ${fault.longer} more`));
  const about = [fault.phase, fault.kind, ...fault.place].join(", ");
  const values = fault.values.map(([name, text]) => [name.replaceAll("_", " "), text]);
  return [
    element("h3", {}, `Step ${fault.step.toLocaleString("en")}: ${about}`),
    element("p", { class: "offence" }, fault.message),
    element(
      "details",
      isFirst ? { open: "" } : {},
      element("summary", {}, "values met there, and the chain to where it was noticed"),
      ...(values.length ? [table(`values of step ${fault.step}`, ["value", "as found"], values)] : []),
      element("ol", { class: "chain" }, ...links),
    ),
  ];
}

export function clipping(figures: RankFigures): HTMLElement[] {
  const { said, limits } = figures.clips;
  const list = element("ul", {}, ...said.map((each) => element("li", {}, each)));
  const heads = ["max_norm", "of the norms on healthy steps", "share of them touched"];
  return [
    element("h2", {}, "Clipping"),
    list,
    ...(limits.length ? [table("limits", heads, limits)] : []),
  ];
}

export function treatments(report: Report): HTMLElement[] {
  const parts: HTMLElement[] = [];
  if (report.treatments.length) {
    const rows = report.treatments.map(([spec, ...rest]) => [element("code", {}, spec), ...rest]);
    parts.push(table("treatments", ["treatment", "state", "what it did"], rows));
  }
  if (report.trials) parts.push(...trials(report.trials));
  return parts.length ? [element("h2", {}, "Treatments and trials"), ...parts] : [];
}

function trials(record: Trials): HTMLElement[] {
  const heads = record.columns.map((each) => each.replaceAll("_", " "));
  const parts: HTMLElement[] = [table("trials of prescribe", heads, record.rows)];
  if (record.best) parts.push(element("p", {}, element("strong", {}, "best: "), record.best));
  if (record.diff) {
    const label = { class: "source", tabindex: "0", role: "region", "aria-label": "repair" };
    parts.push(element("pre", label, record.diff));
  }
  return parts;
}

export function facts(report: Report): HTMLElement[] {
  const list = element("dl", { class: "facts" });
  for (const [name, text] of [...report.facts, ["record", report.folder] as const]) {
    list.append(element("dt", {}, name), element("dd", {}, element("code", {}, text)));
  }
  return [element("h2", {}, "How it ran"), list];
}
