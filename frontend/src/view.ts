/** What stands on the dashboard's page: the list, a run, or several runs over each other. */

export interface View {
  /** Something was written to these runs. */
  changed: (names: ReadonlySet<string>) => void;
  end: () => void;
}
