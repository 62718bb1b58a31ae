/** The report: one run, whose data lie in the page. */

import { readReport } from "./data";
import { runPage } from "./run";
import { applyStyles } from "./styles";

applyStyles();
const page = runPage(readReport(), { window: () => undefined, rank: () => undefined });
document.getElementById("report")?.append(...page.nodes);
page.start();
