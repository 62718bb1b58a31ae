/** The profile through the time steps of recurrences, at the chosen step. */

import uPlot from "uplot";
import { type RankFigures, readFloats, slopeText, type TimeSeries } from "./data";
import { drawn, nothing, type SampledChart } from "./depth";
import { element, key, title } from "./page";
import { isWithin, sampledAt, sampledText, type Store } from "./store";
import { theme } from "./theme";

/** Draw states and gradients along every recurrence. */
export function throughTime(
  place: HTMLElement,
  figures: RankFigures,
  store: Store,
  room: number,
  axis: number,
): SampledChart {
  const { samples } = figures.times;
  const steps = samples.map((each) => each.step);
  title(
    place,
    "Profile through time steps, in bits",
    element("span", { class: "key" }, "solid: gradients; dashed: states"),
  );
  if (!samples.length) return nothing(place, "No recurrence was seen.");
  const said = element("p", { class: "quiet" });
  const drawing = element("div", { id: "time-steps" });
  place.append(said, drawing);
  const charts: uPlot[] = [];
  const update = (): void => {
    for (const chart of charts.splice(0)) chart.destroy();
    const sample = samples[sampledAt(steps, store.view.step)];
    const filter = store.view.filter.trim();
    const all = sample?.series ?? [];
    const series = filter ? all.filter((each) => isWithin(each.name.split(" ")[0] ?? "", filter)) : all;
    said.replaceChildren(
      `${sampledText(steps, store.view.step)}: ${series.map(grows).join("; ") || "no recurrence in this module"} `,
      ...(series.length > 1 ? series.map((each, i) => key(colour(i), each.name)) : []),
    );
    if (series.length) charts.push(draw(drawing, series, room, axis));
  };
  update();
  return { charts, update };
}

function draw(place: HTMLElement, all: readonly TimeSeries[], room: number, axis: number): uPlot {
  const colours = theme();
  const tables = all.map(
    (each): uPlot.AlignedData => [
      each.time_step,
      [...readFloats(each.delta)].map(drawn),
      [...readFloats(each.hidden)].map(drawn),
    ],
  );
  const series: uPlot.Series[] = all.flatMap((_, i) => [
    { stroke: colour(i), width: 2, points: { show: false } },
    { stroke: colour(i), width: 1.5, dash: [5, 4], points: { show: false } },
  ]);
  return new uPlot(
    {
      width: room,
      height: 220,
      legend: { show: false },
      cursor: { show: false },
      scales: { x: { time: false } },
      axes: [
        { stroke: colours.text, grid: { show: false }, ticks: { stroke: colours.grid, size: 4 }, size: 28 },
        {
          size: axis,
          stroke: colours.text,
          grid: { stroke: colours.grid, width: 1 },
          ticks: { show: false },
          values: (_, splits) => splits.map((each) => (each > 0 ? `+${each}` : `${each}`)),
        },
      ],
      series: [{}, ...series],
    },
    uPlot.join(tables),
    place,
  );
}

function colour(place: number): string {
  const all = theme().several;
  return all[place % all.length] ?? "";
}

function grows(series: TimeSeries): string {
  const over = `over ${(series.time_step.at(-1) ?? 0) + 1} ${series.depth ? "blocks" : "time steps"}`;
  if (series.slope === null) return `${series.name} ${over}`;
  return `${series.name}: gradients gain ${slopeText(series.slope)} a time step on their way back, ${over}`;
}
