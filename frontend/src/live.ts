/** One run in the dashboard: its page, fed by tiles, following it while it goes on. */

import { fetchReport, fetchTile, type RunRow, type Stretch, steady, type Tile } from "./api";
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
  let stretch: Stretch = null;
  let page: RunPage | null = null;
  let ended = false;
  place.replaceChildren(element("p", { class: "quiet" }, "Reading the record …"));

  const put = (): void => {
    if (!whole || ended) return;
    Object.assign(figures, merged(whole, stretch, fine));
    figures.tensors = whole.tensors ?? [];
    // Those that the last report did not know yet come last.
    const known = new Set(figures.depth_order);
    figures.depth_order.push(...[...figures.tensors.keys()].filter((each) => !known.has(each)));
    page?.refresh();
  };
  const load = steady(async () => {
    const { rank } = figures;
    const now = await fetchTile(name, rank, null);
    const [first, last] = stretch ?? [];
    if (rank !== figures.rank) return;
    whole = now;
    if (first !== undefined && last !== undefined && now.width > 1) {
      stretch = widened([first, last], now);
      fine = await fetchTile(name, rank, stretch);
    } else fine = null;
    put();
    if (!page) await open();
  }, failed);
  const zoom = steady(async () => {
    if (!whole || !stretch || whole.width === 1) fine = null;
    else {
      stretch = widened(stretch, whole);
      fine = await fetchTile(name, figures.rank, stretch);
    }
    put();
  }, failed);
  const tell = steady(async () => {
    const report = filled(await fetchReport(name));
    if (!ended) page?.tell(report);
  }, failed);

  async function open(): Promise<void> {
    const asked = fetchReport(name);
    const late = new Promise<null>((done) => setTimeout(() => done(null), PATIENCE_MS));
    const told = await Promise.race([asked, late]);
    if (ended) return;
    const report = told ? filled(told) : blankReport(row);
    const first = report.ranks.find((each) => each.rank === figures.rank) ?? report.ranks[0];
    if (first) figures = Object.assign(first, stepsOf(figures));
    if (!figures.depth_order.length) figures.depth_order = [...figures.tensors.keys()];
    page = runPage(report, {
      window: (window) => {
        stretch = window;
        zoom();
      },
      rank: (chosen) => {
        if (chosen === figures) return;
        figures = chosen;
        [whole, fine, stretch] = [null, null, null];
        load();
      },
    });
    place.replaceChildren(...page.nodes);
    page.start();
    if (!told) tell();
  }

  load();
  return {
    changed: (names) => {
      if (!names.has(name) || !page) return;
      load();
      tell();
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
