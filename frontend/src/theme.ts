/** Colours of what is drawn on a canvas, which no style sheet reaches. */

export interface Theme {
  text: string;
  grid: string;
  line: string;
  band: string;
  limit: string;
  nan: string;
  inf: string;
  empty: string;
  critical: string;
  warning: string;
  info: string;
  /** The chosen step. */
  chosen: string;
  /** Told apart by their brightness too. */
  several: readonly string[];
}

// Okabe and Ito's colours, told apart by colour-blind people too.
const LIGHT: Theme = {
  text: "#3b4252",
  grid: "#e3e6ec",
  line: "#0072b2",
  band: "rgba(0,114,178,0.22)",
  limit: "#9a6a00",
  nan: "#cc3311",
  inf: "#ee7733",
  empty: "#eceff4",
  critical: "#cc3311",
  warning: "#b26b00",
  info: "#5b6b80",
  chosen: "#1f2733",
  several: ["#0072b2", "#b34700", "#00734f", "#8f3f71", "#7a5c00", "#5b6b80"],
};

const DARK: Theme = {
  text: "#c5ccd8",
  grid: "#2a303b",
  line: "#56b4e9",
  band: "rgba(86,180,233,0.25)",
  limit: "#e69f00",
  nan: "#ff5a3c",
  inf: "#ffa25c",
  empty: "#1f242d",
  critical: "#ff6a4d",
  warning: "#e69f00",
  info: "#93a1b5",
  chosen: "#f2f5fa",
  several: ["#56b4e9", "#ff9a4d", "#3fc79a", "#e59ac4", "#f0e442", "#aab6c6"],
};

export const darkQuery = window.matchMedia("(prefers-color-scheme: dark)");

/** Return the colours that go with the system's setting; paper is light. */
export function theme(): Theme {
  return darkQuery.matches ? DARK : LIGHT;
}

// Points of viridis (van der Walt and Smith), perceptually even and safe for the colour-blind.
const VIRIDIS = [
  [68, 1, 84], [71, 44, 122], [59, 81, 139], [44, 113, 142], [33, 144, 141],
  [39, 173, 129], [92, 200, 99], [170, 220, 50], [253, 231, 37],
] as const;

/** Return the colour of a share between 0 and 1 as [red, green, blue]. */
export function viridis(share: number): [number, number, number] {
  const place = Math.min(Math.max(share, 0), 1) * (VIRIDIS.length - 1);
  const index = Math.min(Math.floor(place), VIRIDIS.length - 2);
  const rest = place - index;
  const low = VIRIDIS[index] ?? VIRIDIS[0];
  const high = VIRIDIS[index + 1] ?? low;
  return [0, 1, 2].map((i) => {
    const from = low[i] ?? 0;
    return Math.round(from + ((high[i] ?? from) - from) * rest);
  }) as [number, number, number];
}

/** Return `#rrggbb` as [red, green, blue]. */
export function channels(colour: string): [number, number, number] {
  const value = Number.parseInt(colour.slice(1), 16);
  return [(value >> 16) & 255, (value >> 8) & 255, value & 255];
}
