"""The first wrong operation of a step, looked for where the step can show it."""
