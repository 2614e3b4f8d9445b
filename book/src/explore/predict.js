"use strict";
/* Questions on what continuous batching will do next, made from a run, and their answers. No page in here. */

const Predict = (() => {
  const changes = (column) => column.joined.length + column.left.length > 0;

  /* From where to ask next: before the next iteration, after `place`, in which a request joins or leaves; -1 if there is none. */
  function nextPlace(run, place) {
    const found = run.columns.findIndex((column, other) => other > place && changes(column));
    return found < 1 ? -1 : found - 1;
  }

  /* About the iteration after `place`; null at the end. Kinds: "joins" (which requests) and "rows" (how many). */
  function question(run, place) {
    const next = run.columns[place + 1];
    if (!next) return null;
    const waiting = [...next.joined, ...next.queue].sort((a, b) => a - b);
    if (waiting.length && (next.joined.length || place % 2)) return { kind: "joins", waiting, answer: [...next.joined].sort((a, b) => a - b) };
    return { kind: "rows", waiting, answer: next.cells.length };
  }

  const right = ({ kind, answer }, given) =>
    kind === "rows" ? given === answer : answer.join() === [...given].sort((a, b) => a - b).join();

  return { nextPlace, question, right };
})();
