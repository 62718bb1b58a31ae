/** Building the page. All text goes in as text: nothing that a run says becomes markup. */

type Child = Node | string;

/** Return an element with attributes and children. */
export function element<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Record<string, string> = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** Return a command with a button that copies it. */
export function command(text: string): HTMLElement {
  const button = element("button", { type: "button", class: "copy" }, "copy");
  button.addEventListener("click", () => {
    void navigator.clipboard?.writeText(text).then(
      () => {
        button.textContent = "copied";
      },
      () => {
        button.textContent = "select it by hand";
      },
    );
  });
  return element("div", { class: "command" }, element("code", {}, text), button);
}

/** Return a heading of a picture, with what stands beside it. */
export function title(figure: HTMLElement, text: string, ...more: Child[]): HTMLElement {
  const caption = element("figcaption", {}, element("span", {}, text), ...more);
  figure.append(caption);
  return caption;
}

/** Return a colour with what it stands for. */
export function key(colour: string, text: string): HTMLElement {
  const swatch = element("i", { class: "swatch" });
  swatch.style.background = colour;
  return element("span", { class: "key" }, swatch, text);
}

/** Return a table of texts, which may scroll sideways by itself. */
export function table(name: string, heads: readonly string[], rows: Child[][]): HTMLElement {
  const head = element("tr", {}, ...heads.map((each) => element("th", { scope: "col" }, each)));
  const body = rows.map((row) => element("tr", {}, ...row.map((each) => element("td", {}, each))));
  return element(
    "div",
    { class: "scrolls", tabindex: "0", role: "region", "aria-label": name },
    element("table", {}, element("thead", {}, head), element("tbody", {}, ...body)),
  );
}

/** Return a text of at most so many characters, its middle left out. */
export function shortened(text: string, width: number): string {
  if (text.length <= width) return text;
  const head = Math.floor((width - 1) / 2);
  return `${text.slice(0, head)}…${text.slice(text.length - (width - 1 - head))}`;
}
