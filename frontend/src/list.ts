/** The list of all runs, and the choice of those to compare. */

import { type RunList, type RunRow, fetchRuns, steady } from "./api";
import { element } from "./page";
import type { View } from "./view";

export const MOST_COMPARED = 6;

/** Show the list; it follows the runs. */
export function listView(place: HTMLElement, failed: (error: unknown) => void): View {
  const rows = new Map<string, Row>();
  const body = element("tbody", {});
  const folder = element("p", { class: "quiet" });
  const compare = element("button", { type: "button", class: "compare", disabled: "" });
  const heads = ["compare", "run", "state", "verdict", "steps", "began"];
  const head = element("tr", {}, ...heads.map((each) => element("th", { scope: "col" }, each)));
  const table = element("table", { class: "runs" }, element("thead", {}, head), body);
  const empty = element("p", { class: "empty" });
  place.replaceChildren(
    element("header", {}, element("span", { class: "product" }, "gainstage"), element("h1", {}, "Runs")),
    folder,
    element("p", {}, compare),
    table,
    empty,
  );
  const chosen = (): string[] => [...rows].flatMap(([name, row]) => (row.box.checked ? [name] : []));
  const count = (): void => {
    const names = chosen();
    compare.disabled = names.length < 2 || names.length > MOST_COMPARED;
    compare.textContent = names.length < 2
      ? "Compare: choose two runs or more"
      : names.length > MOST_COMPARED
        ? `Compare: at most ${MOST_COMPARED} runs`
        : `Compare ${names.length} runs`;
  };
  compare.addEventListener("click", () => {
    location.hash = new URLSearchParams(chosen().map((each) => ["compare", each])).toString();
  });
  const put = (list: RunList): void => {
    folder.textContent = list.folder;
    empty.textContent = list.runs.length ? "" : "No run yet. Start one: gainstage run SCRIPT";
    table.hidden = !list.runs.length;
    for (const name of rows.keys()) {
      if (!list.runs.some((each) => each.name === name)) rows.delete(name);
    }
    const all = list.runs.map((run) => {
      const row = rows.get(run.name) ?? makeRow(run, count);
      rows.set(run.name, row);
      row.update(run);
      return row.node;
    });
    // Only where runs came or went: a row that stays keeps the focus.
    if (all.some((each, i) => body.children[i] !== each) || body.children.length !== all.length) {
      body.replaceChildren(...all);
    }
    count();
  };
  const load = steady(async () => put(await fetchRuns()), failed);
  load();
  return { changed: load, end: () => undefined };
}

interface Row {
  node: HTMLElement;
  box: HTMLInputElement;
  update: (run: RunRow) => void;
}

function makeRow(first: RunRow, changed: () => void): Row {
  const box = element("input", { type: "checkbox", "aria-label": `compare ${first.name}` });
  box.addEventListener("change", changed);
  const link = element("a", { href: `#${new URLSearchParams({ run: first.name }).toString()}` }, first.name);
  const script = element("span", { class: "quiet" });
  const worst = element("div", { class: "worst" });
  const [state, verdict, steps, began] = ["", "", "steps", ""].map((each) => element("td", { class: each }));
  const node = element(
    "tr",
    {},
    element("td", { class: "choice" }, box),
    element("td", { class: "name" }, link, " ", script, worst),
    ...[state, verdict, steps, began].flatMap((each) => (each ? [each] : [])),
  );
  const update = (run: RunRow): void => {
    node.className = run.verdict;
    script.textContent = [run.script, ...run.treat.map((each) => `--treat ${each}`)].join(" ");
    worst.textContent = run.worst;
    state?.replaceChildren(stateMark(run));
    verdict?.replaceChildren(element("span", { class: "verdict" }, verdictWord(run)));
    if (steps) steps.textContent = run.steps.toLocaleString("en");
    const date = new Date(run.started);
    if (began) began.textContent = Number.isNaN(date.getTime()) ? "" : date.toLocaleString();
  };
  return { node, box, update };
}

/** Return the state of a run: a word with a sign. */
export function stateMark(run: RunRow): HTMLElement {
  const words = { live: "● live", silent: "○ no news", killed: "✕ killed", ended: "ended" };
  const titles = {
    live: "",
    silent: "not ended, but nothing was written for two minutes",
    killed: "its process is gone, and it had not ended",
    ended: "",
  };
  const title = titles[run.state] ? { title: titles[run.state] } : {};
  return element("span", { class: `state ${run.state}`, ...title }, words[run.state]);
}

export function verdictWord(run: RunRow): string {
  if (!run.steps) return run.state === "ended" || run.state === "killed" ? "nothing seen" : "no step yet";
  return { healthy: "healthy", "at-risk": "at risk", failed: "failed" }[run.verdict];
}
