/** The dashboard: which view the address asks for, and the news that all of them follow. */

import { fetchRuns, type RunRow } from "./api";
import { compareView } from "./compare";
import { applyStyles } from "./styles";
import { listView, MOST_COMPARED, stateMark } from "./list";
import { runView } from "./live";
import { element } from "./page";
import type { View } from "./view";

const EVERYTHING_MS = 10_000;

async function main(): Promise<void> {
  applyStyles();
  const place = element("div", {});
  const trouble = element("p", { class: "damage", role: "alert", hidden: "" });
  const back = element("nav", { "aria-label": "dashboard" });
  document.getElementById("report")?.append(back, trouble, place);
  let view: View | null = null;
  let rows: RunRow[] = [];
  let open: string[] = [];
  const failed = (error: unknown): void => {
    trouble.textContent = error instanceof Error ? error.message : String(error);
    trouble.hidden = false;
  };
  const around = (): void => {
    const marks = rows.filter((each) => open.includes(each.name)).map((each) =>
      element("span", {}, `${each.name} `, stateMark(each)));
    back.replaceChildren(element("a", { href: "#" }, "← all runs"), ...marks);
    back.hidden = !open.length;
  };
  const look = async (): Promise<void> => {
    rows = (await fetchRuns()).runs;
    around();
  };
  const show = async (): Promise<void> => {
    view?.end();
    view = null;
    trouble.hidden = true;
    const asked = new URLSearchParams(location.hash.slice(1));
    open = [...asked.getAll("run").slice(0, 1), ...asked.getAll("compare").slice(0, MOST_COMPARED)];
    document.title = open.length ? `${open.join(", ")} – gainstage` : "gainstage";
    await look();
    const chosen = open.flatMap((name) => rows.filter((each) => each.name === name));
    if (chosen.length < open.length) failed(new Error("there is no run of that name any more"));
    const [first] = chosen;
    if (asked.has("run") && first) view = runView(place, first, failed);
    else if (chosen.length) view = compareView(place, chosen, failed);
    else view = listView(place, failed);
  };
  const said = (names: ReadonlySet<string>): void => {
    view?.changed(names);
    if (open.some((each) => names.has(each))) void look().catch(failed);
  };
  const news = new EventSource("events");
  news.addEventListener("changed", (event) => said(new Set(JSON.parse(event.data as string) as string[])));
  news.addEventListener("error", () => failed(new Error("No connection to gainstage serve: is it still running?")));
  news.addEventListener("open", () => {
    trouble.hidden = true;
    // What was written in between was not announced.
    said(new Set(rows.map((each) => each.name)));
  });
  // A run that stopped writing makes no news; its state changes all the same.
  setInterval(() => {
    if (open.length) void look().catch(failed);
    else view?.changed(new Set());
  }, EVERYTHING_MS);
  window.addEventListener("hashchange", () => void show().catch(failed));
  await show().catch(failed);
}

void main();
