"use strict";
/* Timelines as SVG: a row per slot, bars for requests. It knows runs and positions, no settings and no buttons. */

const Drawing = (() => {
  const HUES = 6;
  const LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
  const nameOf = (id) => LETTERS[id % 26] + (id < 26 ? "" : Math.floor(id / 26) + 1);

  /* An element with attributes and children; SVG if its name is one of SVG's. */
  const SVG_NAMES = new Set(["svg", "rect", "text"]);
  function make(name, attributes = {}, ...children) {
    const element = SVG_NAMES.has(name) ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) if (value !== null) element.setAttribute(key, value);
    element.append(...children);
    return element;
  }

  const rowHeight = (lanes) => (lanes <= 4 ? 26 : lanes <= 8 ? 21 : lanes <= 16 ? 15 : 9);

  /* The cells of a schedule as bars: what follows on without a gap, in the same row and of the same kind, is one bar. */
  function barsOf(run, axis) {
    const bars = [], last = new Map();
    run.columns.forEach((column, place) => {
      const [begin, end] = axis === "time" ? [column.begin, column.end] : [place, place + 1];
      for (const { id, slot, kind } of column.cells) {
        const before = last.get(slot);
        if (before && before.id === id && before.kind === kind && Math.abs(before.end - begin) < 1e-6) before.end = end;
        else {
          const bar = { id, name: nameOf(id), lane: slot, kind, begin, end };
          last.set(slot, bar);
          bars.push(bar);
        }
      }
    });
    return bars;
  }

  function shapesOf(bar, scale, height) {
    const width = Math.max(1, (bar.end - bar.begin) * scale - 1);
    const box = { x: bar.begin * scale, y: bar.lane * (height + 3), width, height, rx: Math.min(3, width / 3) };
    const parts = [make("rect", { ...box, class: `${bar.kind === "wasted" ? "wasted" : "bar"} hue${bar.id % HUES}` })];
    if (bar.kind === "prefill") parts.push(make("rect", { ...box, fill: "url(#hatch)" }));
    return parts;
  }

  function nameIn(bar, scale, height) {
    const width = (bar.end - bar.begin) * scale - 1, needed = 8 * bar.name.length;
    if (bar.label === false || height < 14 || width < needed + 3) return [];
    const x = bar.begin * scale + (width > needed + 10 ? 5 : 2), y = bar.lane * (height + 3) + height / 2 + 4.5;
    return [make("text", { x, y, class: `name ${bar.kind} hue${bar.id % HUES}` }, bar.name)];
  }

  /* A prompt and the answer after it are one request: the name stands on the answer if there is room for it. */
  function labelled(bars, scale) {
    const answers = new Map(bars.filter((bar) => bar.kind === "decode").map((bar) => [`${bar.id} ${bar.lane} ${bar.begin}`, bar]));
    for (const bar of bars) {
      const answer = bar.kind === "prefill" && answers.get(`${bar.id} ${bar.lane} ${bar.end}`);
      if (answer && (answer.end - answer.begin) * scale > 8 * bar.name.length + 4) bar.label = false;
    }
    return bars;
  }

  /* The chart of bars. `now`: [begin, end] of what is outlined; `known`: from where on the future begins; `hide` covers it. */
  function chart({ bars, lanes, until, scale, now, known, hide, words }) {
    const height = rowHeight(lanes), width = Math.max(1, until * scale), all = lanes * (height + 3);
    const svg = make("svg", { width: Math.ceil(width) + 2, height: all + 1, role: "img", "aria-label": words, class: "timeline" });
    for (let lane = 0; lane < lanes; lane++) svg.append(make("rect", { class: "idle", x: 0, y: lane * (height + 3), width, height, rx: 3 }));
    svg.append(...bars.flatMap((bar) => shapesOf(bar, scale, height)));
    svg.append(...labelled(bars, scale).flatMap((bar) => nameIn(bar, scale, height)));
    if (known !== undefined && known < until) {
      svg.append(make("rect", { class: hide ? "hide" : "future", x: known * scale, y: -1, width: width - known * scale + 2, height: all + 2 }));
    }
    if (now) svg.append(make("rect", { class: "now", x: now[0] * scale, y: 1, width: Math.max(2, (now[1] - now[0]) * scale - 1), height: all - 3 }));
    return svg;
  }

  function niceStep(length, parts) {
    const power = 10 ** Math.floor(Math.log10(length / parts || 1));
    return [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= length / parts) ?? 1;
  }

  /* The scale under a chart. Iterations are counted from 1, and stand under their columns. */
  function axis({ until, scale, unit, whole }) {
    const svg = make("svg", { width: Math.ceil(until * scale) + 2, height: 20, "aria-hidden": "true", class: "axis" });
    const step = Math.max(whole ? 1 : 0, niceStep(until, Math.max(2, (until * scale) / 70)));
    for (let i = 0; i * step <= until * (1 + 1e-9); i++) {
      const value = whole && i * step === 0 ? 1 : i * step, x = whole ? (value - 0.5) * scale : value * scale;
      if (whole && i && value - 1 < step / 2) continue;
      const anchor = x < 8 ? "start" : x > until * scale - 24 ? "end" : "middle";
      const text = i === 0 && !whole ? `0 ${unit}` : String(Number(value.toPrecision(6)));
      svg.append(make("text", { x: anchor === "end" ? Math.max(x, until * scale) : x, y: 14, "text-anchor": anchor }, text));
    }
    return svg;
  }

  /* One timeline: title, figures, rows with their labels, the axis, and what happens in words. */
  function band({ name, figures, word, lanes, words, ...picture }) {
    const height = rowHeight(lanes);
    const labels = make("div", { class: "labels", "aria-hidden": "true" });
    const every = height >= 14 ? 1 : 4;
    for (let lane = 0; lane < lanes; lane++) {
      labels.append(make("span", { style: `height:${height + 3}px;line-height:${height}px` }, lane % every ? "" : `${word} ${lane}`));
    }
    const column = make("div", {}, chart({ ...picture, lanes, words: `${name}. ${words}` }), axis(picture));
    return make("article", { class: "band" },
      make("div", { class: "head" }, make("h3", {}, name), make("p", { class: "so-far" }, figures)),
      make("div", { class: "chart" }, labels, column),
      make("p", { class: "words" }, words));
  }

  return { nameOf, make, barsOf, band, HUES };
})();
