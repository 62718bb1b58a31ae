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
