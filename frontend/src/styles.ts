/** The style sheets, put on the page without markup. */

import uplotStyle from "uplot/dist/uPlot.min.css";
import style from "./style.css";

export function applyStyles(): void {
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(uplotStyle + style);
  document.adoptedStyleSheets = [sheet];
}
