/** One run in the dashboard: its page, fed by tiles, following it while it goes on. */

import { fetchReport, fetchTile, type RunRow, type StepRange, steady, type Tile } from "./api";
import type { Band, RankFigures, Report } from "./data";
import { element } from "./page";
import { type RunPage, runPage } from "./run";
import { merged, stepsOf, widened } from "./tiles";
import type { View } from "./view";

const PATIENCE_MS = 700;

/** Show a run; its answers come later if they take long. */
export function runView(place: HTMLElement, row: RunRow, failed: (error: unknown) => void): View {
  const { name } = row;
  let figures = blankFigures(0);
  let whole: Tile | null = null;
  let fine: Tile | null = null;
  let range: StepRange = null;
  let page: RunPage | null = null;
  let ended = false;
  place.replaceChildren(element("p", { class: "quiet" }, "Reading the record …"));

  const put = (): void => {
    if (!whole || ended) return;
    Object.assign(figures, merged(whole, range, fine));
    figures.tensors = whole.tensors ?? [];
    // Those that the last report did not know yet come last.
    const known = new Set(figures.depth_order);
    figures.depth_order.push(...[...figures.tensors.keys()].filter((each) => !known.has(each)));
    page?.refresh();
  };
  const load = steady(async () => {
    const { rank } = figures;
    const now = await fetchTile(name, rank, null);
    const [first, last] = range ?? [];
    if (rank !== figures.rank) return;
    whole = now;
    if (first !== undefined && last !== undefined && now.width > 1) {
      range = widened([first, last], now);
      fine = await fetchTile(name, rank, range);
    } else fine = null;
    put();
    if (!page) await open();
  }, failed);
  const zoom = steady(async () => {
    if (!whole || !range || whole.width === 1) fine = null;
    else {
      range = widened(range, whole);
      fine = await fetchTile(name, figures.rank, range);
    }
    put();
  }, failed);
  const update = steady(async () => {
    const report = filled(await fetchReport(name));
    if (!ended) page?.update(report);
  }, failed);

  async function open(): Promise<void> {
    const asked = fetchReport(name);
    const late = new Promise<null>((done) => setTimeout(() => done(null), PATIENCE_MS));
    const early = await Promise.race([asked, late]);
    if (ended) return;
    const report = early ? filled(early) : blankReport(row);
    const first = report.ranks.find((each) => each.rank === figures.rank) ?? report.ranks[0];
    if (first) figures = Object.assign(first, stepsOf(figures));
    if (!figures.depth_order.length) figures.depth_order = [...figures.tensors.keys()];
    page = runPage(report, {
      window: (window) => {
        range = window;
        zoom();
      },
      rank: (chosen) => {
        if (chosen === figures) return;
        figures = chosen;
        [whole, fine, range] = [null, null, null];
        load();
      },
    });
    place.replaceChildren(...page.nodes);
    page.start();
    if (!early) update();
  }

  load();
  return {
    changed: (names) => {
      if (!names.has(name) || !page) return;
      load();
      update();
    },
    end: () => {
      ended = true;
      page?.end();
    },
  };
}

/** Return a report whose figures over steps are still to come. */
function filled(report: Report): Report {
  report.ranks = report.ranks.map((each) => ({ ...blankFigures(each.rank), ...each }));
  return report;
}

function blankFigures(rank: number): RankFigures {
  return {
    rank,
    name: "",
    step: [],
    last_step: -1,
    tensors: [],
    loss: blankBand(),
    norm_bits: blankBand(),
    max_norm_bits: blankBand(),
    cells: new Int16Array(0),
    depth_order: [],
    ledger: { steps: [], layers: [], names: [], forward: "", backward: "", headroom: "", backward_slope: [], forward_slope: [] },
    times: { samples: [] },
    ratios: { steps: [], tensors: 0, bits: "" },
    clips: { said: [], limits: [] },
    faults: [],
  };
}

function blankBand(): Band {
  return { minimum: [], maximum: [], nan: [], inf: [] };
}

/** Return what the list says of a run, as a report. */
function blankReport(row: RunRow): Report {
  return {
    schema: "gainstage.report/1",
    version: "",
    script: row.script,
    folder: row.name,
    verdict: row.verdict,
    verdict_text: row.verdict.toUpperCase(),
    extent: `${row.steps.toLocaleString("en")} steps`,
    answers: [{ label: "", text: "reading what the record says …", main: false }],
    growing: [],
    treat: null,
    next: [],
    symptoms: [],
    facts: [],
    damage: [],
    diagnosis: null,
    treatments: [],
    trials: null,
    ranks: [blankFigures(0)],
    ranks_in_all: 1,
  };
}
