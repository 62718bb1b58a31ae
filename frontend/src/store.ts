/** What all pictures share: the chosen step, the module looked at, the order of the tensors. */

import type { Tensor } from "./data";

export interface View {
  step: number;
  /** A module, or part of a tensor's name; empty for everything. */
  filter: string;
  order: "depth" | "model";
}

export interface Store {
  readonly view: Readonly<View>;
  set: (change: Partial<View>) => void;
  listen: (callback: (changed: ReadonlySet<string>) => void) => void;
}

export function makeStore(view: View): Store {
  const listeners: ((changed: ReadonlySet<string>) => void)[] = [];
  return {
    view,
    set: (change) => {
      const before: View = { ...view };
      Object.assign(view, change);
      const keys = ["step", "filter", "order"] as const;
      const changed = new Set<string>(keys.filter((each) => view[each] !== before[each]));
      if (changed.size) for (const each of listeners) each(changed);
    },
    listen: (each) => listeners.push(each),
  };
}

/** Return the tensors of a module and what is below it; without such a module, those so named. */
export function matching(tensors: readonly Tensor[], filter: string): Set<number> {
  const wanted = filter.trim();
  const matching = (test: (tensor: Tensor) => boolean): number[] =>
    tensors.flatMap((each, i) => (test(each) ? [i] : []));
  if (!wanted) return new Set(tensors.keys());
  const inside = matching((each) => isWithin(each.module ?? "", wanted));
  return new Set(inside.length ? inside : matching((each) => each.name.includes(wanted)));
}

/** Tell whether a module is another one or below it. */
export function isWithin(module: string, outer: string): boolean {
  return module === outer || module.startsWith(`${outer}.`);
}

/** Return the last sampled step at or before a step, as its place; the first where none is. */
export function sampledAt(steps: readonly number[], step: number): number {
  let at = 0;
  for (let i = 0; i < steps.length && (steps[i] ?? 0) <= step; i += 1) at = i;
  return at;
}

/** Say at which step a picture stands that shows only sampled ones. */
export function sampledText(steps: readonly number[], step: number): string {
  const shown = steps[sampledAt(steps, step)];
  if (shown === undefined) return "";
  if (shown === step) return `step ${step.toLocaleString("en")}`;
  const side = shown < step ? "the last one sampled until" : "the first one sampled, after";
  return `step ${shown.toLocaleString("en")}, ${side} ${step.toLocaleString("en")}`;
}
