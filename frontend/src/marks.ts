/** Symptoms and non-finite values, drawn over a chart. */

import type uPlot from "uplot";
import type { Band, Symptom } from "./data";
import type { Store } from "./store";
import { theme } from "./theme";

/** Draw a line at each symptom's first step. */
export function symptomMarks(read: () => readonly Symptom[]): uPlot.Plugin {
  return {
    hooks: {
      draw: (chart) => {
        const { ctx, bbox } = chart;
        const colours = theme();
        ctx.save();
        for (const symptom of [...read()].reverse()) {
          const x = Math.round(chart.valToPos(symptom.step, "x", true)) + 0.5;
          if (x < bbox.left || x > bbox.left + bbox.width) continue;
          ctx.strokeStyle = colours[symptom.severity];
          ctx.lineWidth = devicePixelRatio * (symptom.severity === "critical" ? 2 : 1);
          ctx.setLineDash(symptom.severity === "critical" ? [] : [4, 3]);
          ctx.beginPath();
          ctx.moveTo(x, bbox.top);
          ctx.lineTo(x, bbox.top + bbox.height);
          ctx.stroke();
        }
        ctx.restore();
      },
    },
  };
}

/** Draw the chosen step, with a mark at the upper edge. */
export function chosenMark(store: Store): uPlot.Plugin {
  return {
    hooks: {
      draw: (chart) => {
        const { ctx, bbox } = chart;
        const x = Math.round(chart.valToPos(store.view.step, "x", true)) + 0.5;
        if (x < bbox.left || x > bbox.left + bbox.width) return;
        const size = 5 * devicePixelRatio;
        ctx.save();
        ctx.strokeStyle = ctx.fillStyle = theme().chosen;
        ctx.lineWidth = devicePixelRatio;
        ctx.beginPath();
        ctx.moveTo(x, bbox.top);
        ctx.lineTo(x, bbox.top + bbox.height);
        ctx.stroke();
        ctx.beginPath();
        ctx.moveTo(x - size, bbox.top - size);
        ctx.lineTo(x + size, bbox.top - size);
        ctx.lineTo(x, bbox.top + size / 2);
        ctx.fill();
        ctx.restore();
      },
    },
  };
}

/** Draw horizontal lines at levels of note. */
export function levelLines(levels: () => (number | null)[]): uPlot.Plugin {
  return {
    hooks: {
      draw: (chart) => {
        const { ctx, bbox } = chart;
        ctx.save();
        ctx.strokeStyle = theme().info;
        ctx.lineWidth = devicePixelRatio;
        ctx.setLineDash([2 * devicePixelRatio, 3 * devicePixelRatio]);
        for (const level of levels()) {
          if (level === null) continue;
          const y = Math.round(chart.valToPos(level, "y", true)) + 0.5;
          if (y < bbox.top || y > bbox.top + bbox.height) continue;
          ctx.beginPath();
          ctx.moveTo(bbox.left, y);
          ctx.lineTo(bbox.left + bbox.width, y);
          ctx.stroke();
        }
        ctx.restore();
      },
    },
  };
}

/** Draw ∞ along the upper edge, at the places whose level is infinite. */
export function infiniteMarks(places: () => number[]): uPlot.Plugin {
  return { hooks: { draw: (chart) => row(chart, null, places(), "\u221e", theme().inf, 0) } };
}

export interface Marked {
  step: readonly number[];
  band: Band;
  /** Of all marks, and the line on which they stand, where several series are marked. */
  colour?: string;
  line?: number;
}

/** Draw NaN as × and inf as ∞ along the upper edge, at the bins that hold one. */
export function nonfiniteMarks(read: () => Marked): uPlot.Plugin {
  return {
    hooks: {
      draw: (chart) => {
        const { step: steps, band, colour, line = 0 } = read();
        const colours = theme();
        row(chart, steps, band.inf, "∞", colour ?? colours.inf, line);
        row(chart, steps, band.nan, "×", colour ?? colours.nan, line + (band.inf.length ? 1 : 0));
      },
    },
  };
}

function row(
  chart: uPlot,
  steps: readonly number[] | null,
  bins: readonly number[],
  sign: string,
  colour: string,
  line: number,
): void {
  const { ctx, bbox } = chart;
  const size = 12 * devicePixelRatio;
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  ctx.fillStyle = colour;
  ctx.font = `bold ${size}px system-ui, sans-serif`;
  ctx.textAlign = "center";
  ctx.textBaseline = "top";
  let last = Number.NEGATIVE_INFINITY;
  for (const bin of bins) {
    const at = chart.valToPos(steps === null ? bin : (steps[bin] ?? 0), "x", true);
    const out = at < bbox.left - 1 || at > bbox.left + bbox.width + 1;
    // At the very edge half of a sign would be cut off.
    const x = Math.min(Math.max(at, bbox.left + size / 3), bbox.left + bbox.width - size / 3);
    if (out) continue;
    if (x - last < size * 0.7) continue;
    ctx.fillText(sign, x, bbox.top + 2 + line * size);
    last = x;
  }
  ctx.restore();
}
