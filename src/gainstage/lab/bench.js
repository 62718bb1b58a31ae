// The lab's bench: knobs whose picture follows at once. Plain JavaScript, no library, no network.
"use strict";

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 640, HEIGHT = 290, LEFT = 62, RIGHT = 24, TOP = 14, BOTTOM = 50;
const DTYPES = JSON.parse(document.getElementById("data").textContent).dtypes;

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function shape(tag, attributes = {}, text = "") {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text) made.textContent = text;
  return made;
}

function short(value) {
  if (!Number.isFinite(value)) return String(value).replace("Infinity", "inf");
  if (Number.isInteger(value) && Math.abs(value) < 1e9) return String(value);
  return String(Number(value.toPrecision(4)));
}

// Round values that span a range, five or so.
function ticks(low, high) {
  if (!(low < high)) [low, high] = [low - 1, high + 1];
  const rough = (high - low) / 5, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((each) => each * power).find((each) => each >= rough * 0.999);
  const first = Math.floor(low / step + 1e-9), last = Math.ceil(high / step - 1e-9);
  return Array.from({ length: last - first + 1 }, (_, i) => (first + i) * step);
}

// Draw lines, each a list of [x, y] in bits, over a common axis; `levels` are horizontal.
function draw(svg, { lines, levels, xLabel, yLabel, lostAt, xRange }) {
  svg.replaceChildren();
  const points = lines.flatMap((line) => line.points).filter(([, y]) => Number.isFinite(y));
  const xs = points.map(([x]) => x), ys = points.map(([, y]) => y);
  const [xLow, xHigh] = xRange ?? [Math.min(...xs), Math.max(...xs, Math.min(...xs) + 1)];
  const axis = ticks(Math.min(...ys, ...levels.map((l) => l.at)), Math.max(...ys, ...levels.map((l) => l.at)));
  const bottom = axis[0], top = axis[axis.length - 1];
  const px = (x) => LEFT + ((x - xLow) / (xHigh - xLow)) * (WIDTH - LEFT - RIGHT);
  const py = (y) => HEIGHT - BOTTOM - ((y - bottom) / (top - bottom)) * (HEIGHT - TOP - BOTTOM);
  for (const value of axis) {
    svg.append(shape("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: py(value), y2: py(value) }));
    svg.append(shape("text", { class: "tick", x: LEFT - 6, y: py(value) + 4, "text-anchor": "end" }, short(value)));
  }
  for (const value of ticks(xLow, xHigh)) {
    if (value < xLow || value > xHigh || (xRange && !Number.isInteger(value))) continue;
    svg.append(shape("text", { class: "tick", x: px(value), y: HEIGHT - BOTTOM + 20, "text-anchor": "middle" }, short(value)));
  }
  svg.append(shape("text", { class: "axis", x: (WIDTH + LEFT) / 2, y: HEIGHT - 6, "text-anchor": "middle" }, xLabel));
  const middle = (HEIGHT - BOTTOM + TOP) / 2;
  svg.append(shape("text", { class: "axis", x: 16, y: middle, "text-anchor": "middle", transform: `rotate(-90 16 ${middle})` }, yLabel));
  for (const { name, at } of levels) {
    svg.append(shape("line", { class: "level", x1: LEFT, x2: WIDTH - RIGHT, y1: py(at), y2: py(at) }));
  }
  if (lostAt !== null && lostAt <= xHigh) {
    const x = Math.max(px(lostAt), LEFT);
    svg.append(shape("rect", { class: "dead", x, y: TOP, width: Math.max(WIDTH - RIGHT - x, 2), height: HEIGHT - TOP - BOTTOM }));
  }
  lines.forEach((line, i) => {
    if (line.columns) {
      // Columns beside each other, from 0 up or down.
      for (const [x, y] of line.points) {
        const at = px(x) + (i - lines.length / 2) * 30, from = py(Math.max(y, 0));
        svg.append(shape("rect", { class: `column c${i}`, x: at, y: from, width: 26, height: Math.max(Math.abs(py(y) - py(0)), 1) }));
      }
      return;
    }
    const path = line.points
      .filter(([, y]) => Number.isFinite(y))
      .map(([x, y], at) => `${at ? "L" : "M"}${px(x).toFixed(1)} ${py(y).toFixed(1)}`)
      .join("");
    svg.append(shape("path", { class: `line c${i}${line.dashed ? " dashed" : ""}`, d: path }));
  });
  for (const { name, at } of levels) {
    svg.append(shape("text", { class: "tick named", x: WIDTH - RIGHT - 4, y: py(at) - 5, "text-anchor": "end" }, name));
  }
}

function slider(id, label, min, max, step, value, shown = short) {
  const input = element("input", { type: "range", id, min, max, step, value });
  const output = element("output", { for: id });
  const show = () => {
    output.textContent = shown(Number(input.value));
    input.setAttribute("aria-valuetext", output.textContent);
  };
  input.addEventListener("input", show);
  show();
  return { field: element("label", {}, label, " ", output, input), input };
}

function choice(id, label, names, value) {
  const input = element("select", { id }, ...names.map((name) => element("option", {}, name)));
  input.value = value;
  return { field: element("label", {}, label, input), input };
}

function bench(id, title, about, knobs, render) {
  const svg = shape("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", id: `${id}-picture`, "aria-label": title });
  const said = element("p", { class: "said", "aria-live": "polite", id: `${id}-said` });
  const legend = element("div", { class: "legend" });
  const update = () => {
    const { text, names, ...picture } = render();
    said.textContent = text;
    legend.replaceChildren(
      ...names.map((name, i) => {
        const mark = shape("svg", { class: "swatch", viewBox: "0 0 22 8", "aria-hidden": "true" });
        mark.append(shape("path", { class: `line c${i}${picture.lines[i].dashed ? " dashed" : ""}`, d: "M0 4L22 4" }));
        return element("span", { class: "key" }, mark, name);
      }),
    );
    draw(svg, picture);
  };
  for (const knob of knobs) knob.input.addEventListener("input", update);
  update();
  return element(
    "section", { class: "bench", id },
    element("h2", {}, title), element("p", {}, about),
    element("div", { class: "knobs" }, ...knobs.map((knob) => knob.field)),
    said, legend, svg,
  );
}

// The linear chain: level of activation and of delta by layer, against the dtype's largest value.
function chainBench() {
  const weight = slider("chain-weight", "weight w", 0.25, 3, 0.01, 2);
  const depth = slider("chain-depth", "layers", 2, 200, 1, 20);
  const dtype = choice("chain-dtype", "number format", DTYPES.map((d) => d.name), "float16");
  const limit = slider("chain-limit", "clip the gradient at", -4, 14, 1, 2, (bits) => short(2 ** bits));
  return bench(
    "chain-bench", "Turn the gain of a linear chain",
    "Every layer multiplies by w. Shaded: layers whose activation the number format no longer holds.",
    [weight, depth, dtype, limit],
    () => {
      const w = Number(weight.input.value), n = Number(depth.input.value);
      const { name, largest, smallest } = DTYPES.find((d) => d.name === dtype.input.value);
      const max = 2 ** Number(limit.input.value), gain = Math.log2(w);
      const layers = Array.from({ length: n }, (_, i) => i + 1);
      const top = Math.log2(largest), floor = Math.log2(smallest) - 1;
      const lost = layers.find((i) => i * gain > top || i * gain < floor) ?? null;
      // Each dL/dW_i of the chain is w^(n-1), so the norm of all n of them is sqrt(n) w^(n-1).
      const normBits = (n - 1) * gain + Math.log2(n) / 2;
      const factor = Math.min(0, Math.log2(max) - normBits);
      const levels = [{ name: `largest ${name}`, at: top }].filter((l) => Math.abs(n * gain) > l.at / 4);
      const end = `δ1 = 2^${short((n - 1) * gain)} = ${short(w ** (n - 1))}, ${short(gain)} ${Math.abs(gain) === 1 ? "bit" : "bits"} a layer.`;
      const gone = lost === null ? `${name} holds all ${n} layers.`
        : `${name} ${gain > 0 ? "overflows" : "is 0"} from layer ${lost} on.`;
      const cut = factor < 0 ? `The clip scales the step by 2^${short(factor)}; the ${lost === null ? "slope" : "overflow"} stays.`
        : "The clip does not act.";
      return {
        text: `${end} ${gone} ${cut}`,
        names: ["activation", "gradient δ", "∂L/∂W after the clip"],
        lines: [
          { points: layers.map((i) => [i, i * gain]) },
          { points: layers.map((i) => [i, (n - i) * gain]) },
          { points: layers.map((i) => [i, (n - 1) * gain + factor]), dashed: true },
        ],
        levels, xLabel: "layer", yLabel: "bits", lostAt: lost,
      };
    },
  );
}

// One weight through time: the gradient from T steps back, and how far float32 remembers.
function timeBench() {
  const weight = slider("time-weight", "recurrent weight w", 0.8, 1.2, 0.005, 1.01);
  const steps = slider("time-steps", "time steps", 10, 1000, 10, 100);
  return bench(
    "time-bench", "One weight, many time steps",
    "The same weight at every time step: a hundredth more or less decides.",
    [weight, steps],
    () => {
      const w = Number(weight.input.value), n = Number(steps.input.value), gain = Math.log2(w);
      const at = Array.from({ length: n + 1 }, (_, i) => i);
      const horizon = gain < 0 ? `A gradient is forgotten after ${Math.ceil(24 / -gain)} steps (24 bits).`
        : gain > 0 ? `float32 overflows after ${Math.floor(128 / gain) + 1} steps.` : "It is carried for ever.";
      return {
        text: `${short(w)}^${n} = ${short(w ** n)} (${short(n * gain)} bits). ${horizon}`,
        names: ["gradient"],
        lines: [{ points: at.map((i) => [i, i * gain]) }],
        levels: [{ name: "w = 1", at: 0 }, ...(gain < 0 && -n * gain > 12 ? [{ name: "24 bits down", at: -24 }] : [])],
        xLabel: "time steps back", yLabel: "bits", lostAt: null,
      };
    },
  );
}

// Clipping a vector by its norm and by value: length against the threshold, and the direction.
function clipBench() {
  const gradient = [16, 12, -8];
  const limit = slider("clip-limit", "threshold", 0.5, 30, 0.5, 5);
  return bench(
    "clip-bench", "Clip [16, 12, -8]",
    "By norm, the whole vector shrinks and keeps its direction; by value, each entry is cut by itself.",
    [limit],
    () => {
      const max = Number(limit.input.value), norm = Math.hypot(...gradient);
      const factor = Math.min(1, max / norm);
      const scaled = gradient.map((g) => g * factor), cut = gradient.map((g) => Math.max(-max, Math.min(max, g)));
      const dot = gradient.reduce((sum, g, i) => sum + g * cut[i], 0);
      const cosine = dot / (norm * Math.hypot(...cut));
      return {
        text: `norm ${short(norm)}, factor ${short(factor)}: [${scaled.map(short).join(", ")}]. `
          + `By value: [${cut.map(short).join(", ")}], cosine ${cosine.toFixed(3)}.`,
        names: ["gradient", "by norm", "by value"],
        lines: [gradient, scaled, cut].map((v, i) => ({ columns: true, points: v.map((y, at) => [at + 1, y]) })),
        levels: [{ name: "threshold", at: max }, { name: "", at: -max }],
        xLabel: "entry", yLabel: "value", lostAt: null, xRange: [0.5, 3.5],
      };
    },
  );
}

document.getElementById("bench").append(chainBench(), timeBench(), clipBench());
