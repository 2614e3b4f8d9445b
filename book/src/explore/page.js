"use strict";
/* The page: settings in, timelines out. What is decided is in scheduler.js, what is drawn in drawing.js. */

const { make, nameOf } = Drawing;
const byId = (id) => document.getElementById(id);
const form = byId("form");

const SCHEDULES = { static: "Static batches", dynamic: "Dynamic batches", continuous: "Continuous batching" };
const STRATEGY_NAMES = { fifo: "FIFO", "shortest-remaining": "shortest remaining", "length-balance": "length balance" };
const EOS_LIMIT = 256; // max_tokens of answers that end by EOS: all that an engine knows of their length
const PASS = Scheduler.PASS;

const DEFAULTS = {
  slots: 4, chunk: 128, strategy: "fifo", maxWait: 50, ahead: true, cost: "flat", knee: 8, host: 1,
  source: "random", list: "3/4, 3/12, 3/8", count: 24, prompts: "equal", promptMean: 8,
  outputs: "equal", outputMean: 16, rate: 0, seed: 1, ends: "length",
};
const PRESETS = {
  "4-12-8": {
    name: "4, 12 and 8",
    about: "An example to play through by hand: answers of 4, 12 and 8 tokens in three slots, and two more that follow. In the first 12"
      + " iterations static batching uses 24 of 36 places, 67 %; continuous batching uses all 36, because D and E join as soon as a"
      + " slot is free.",
    settings: { slots: 3, source: "list", list: "3/4, 3/12, 3/8, 3/8, 3/4" },
    place: 11,
  },
  equal: {
    name: "Equal lengths",
    about: "All prompts are equally long, so are all answers, and every request is there from the start. Groups end together, so there"
      + " is nothing to gain: continuous batching pays off when answers differ in length.",
    settings: {},
  },
  "heavy-tail": {
    name: "Heavy tail",
    about: "Most answers are short, a few are long, and requests come one by one, as in a chat service. A group runs until its longest"
      + " answer is done, and every request that comes in the meantime waits for that.",
    settings: { prompts: "log-normal", outputs: "log-normal", outputMean: 20, rate: 16, seed: 5 },
  },
  "long-prompts": {
    name: "Long prompts",
    about: "Long prompts are read in chunks of 32 tokens, one per iteration, while other requests decode. Here time says more than"
      + " iterations: under the roofline a chunk of 32 tokens takes four times as long as a single token. First tokens come sooner"
      + " with continuous batching; but the answers are equally long, so groups waste nothing and finish sooner.",
    settings: { count: 12, chunk: 32, cost: "roofline", prompts: "bimodal", promptMean: 64, outputMean: 12, seed: 3 },
    axis: "time",
  },
  eos: {
    name: "Launching ahead",
    about: "Answers end with an EOS, and the engine does not know of it until it is read. By then an engine that launches ahead has"
      + " launched one more row, for nothing. Switch “Launch ahead” off in the settings: no row is wasted, but the device waits for"
      + " the host in every iteration.",
    settings: { slots: 3, source: "list", list: "3/4, 3/12, 3/8, 3/8, 3/4", ends: "eos", host: 4 },
    axis: "time",
  },
};

const state = { runs: {}, requests: [], settings: null, moments: [0], place: 0, timer: null, score: [0, 0], asked: null, traces: [] };

// Settings and requests

function fill(settings) {
  for (const [name, value] of Object.entries({ ...DEFAULTS, ...settings })) {
    if (form[name].type === "checkbox") form[name].checked = value;
    else form[name].value = value;
  }
}

/* Throws an Error that names the field. */
function readForm() {
  const settings = {};
  for (const field of form.querySelectorAll("[name]")) {
    const unused = field.closest(form.source.value === "list" ? ".random" : ".list");
    const empty = field.type === "number" && field.value === "";
    if (!unused && (empty || !field.checkValidity())) {
      throw new Error(`${field.labels[0].firstChild.textContent.trim()}: ${field.min} to ${field.max}, please.`);
    }
    settings[field.name] = field.type === "number" ? Number(field.value) : field.type === "checkbox" ? field.checked : field.value;
  }
  return settings;
}

function requestsOf(settings) {
  const requests = settings.source === "list" ? Scheduler.parseList(settings.list) : Scheduler.draw(settings);
  const eos = settings.ends === "eos";
  return requests.map((request) => ({ ...request, maxTokens: eos ? Math.max(EOS_LIMIT, request.output) : request.output }));
}

function costWords({ cost, knee }) {
  const token = `${round(PASS / knee)} ms`;
  return {
    flat: `Each iteration takes ${PASS} ms, whatever it computes.`,
    linear: `Each token takes ${token}: nothing is shared.`,
    roofline: `A call of the model takes ${PASS} ms to read the weights, or ${token} per token to compute, whichever is longer. Rows that`
      + " decode share one call; each chunk of a prompt is a call of its own.",
  }[cost];
}

/* Serve the requests by all three schedules, and begin at the beginning. */
function serve(place = 0) {
  pause();
  for (const field of form.querySelectorAll(".random")) field.hidden = form.source.value === "list";
  for (const field of form.querySelectorAll(".list")) field.hidden = form.source.value !== "list";
  try {
    state.settings = readForm();
    state.requests = requestsOf(state.settings);
    byId("wrong").textContent = "";
  } catch (error) {
    byId("wrong").textContent = error.message;
    return;
  }
  byId("cost-words").textContent = costWords(state.settings);
  for (const schedule of Object.keys(SCHEDULES)) state.runs[schedule] = Scheduler.simulate(schedule, state.requests, state.settings);
  setMoments();
  drawFigures();
  drawMislead();
  go(place);
  if (byId("predict").checked) startPredicting();
}

// Steps

const inTime = () => byId("axis").value === "time";

/* A step goes to the next column; on the axis of time, to the next moment at which any of the three begins one. */
function setMoments() {
  const runs = Object.values(state.runs);
  if (!inTime()) state.moments = [...Array(Math.max(...runs.map((run) => run.columns.length))).keys()];
  else state.moments = [...new Set(runs.flatMap((run) => run.columns.map((column) => round(column.begin))))].sort((a, b) => a - b);
  byId("position").max = state.moments.length - 1;
}

/* Which column of a run that is: its number, and whether it is computed at that moment. */
function columnAt(run, moment) {
  if (!inTime()) return { place: Math.min(moment, run.columns.length - 1), running: moment < run.columns.length };
  const place = run.columns.findLastIndex((column) => column.begin <= moment + 0.01);
  return { place, running: place >= 0 && moment < run.columns[place].end - 0.01 };
}

function go(place) {
  state.place = Math.max(0, Math.min(place, state.moments.length - 1));
  drawTimelines();
  drawRequests();
}

function pause() {
  clearInterval(state.timer);
  state.timer = null;
  byId("play").textContent = "Play";
  byId("play").setAttribute("aria-pressed", "false");
}

function play() {
  if (byId("predict").checked) return undefined; // it would give the answers away
  if (state.timer) return pause();
  if (state.place === state.moments.length - 1) go(0);
  byId("play").textContent = "Pause";
  byId("play").setAttribute("aria-pressed", "true");
  state.timer = setInterval(() => (state.place < state.moments.length - 1 ? go(state.place + 1) : pause()), 450);
}

// Words

const round = (value, digits = 2) => Number(value.toFixed(digits));
const percent = (share) => `${Math.round(100 * share)} %`;
const names = (ids, most = 12) =>
  ids.slice(0, most).map(nameOf).join(", ") + (ids.length > most ? ` and ${ids.length - most} more` : "");
const verb = (ids, one, many) => (ids.length === 1 ? one : many);

/* What an iteration does: which requests leave, join, read a prompt, decode or wait. */
function wordsOf(run, { place, running }) {
  if (place < 0) return "Nothing has begun.";
  const column = run.columns[place];
  if (!running) return idleWords(run, place);
  const of = (kind) => column.cells.filter((cell) => cell.kind === kind);
  const decode = of("decode").map((cell) => cell.id), wasted = of("wasted").map((cell) => cell.id);
  const parts = [];
  if (column.left.length) parts.push(`${names(column.left)} ${verb(column.left, "has", "have")} left.`);
  for (const { id, from, to } of column.moves) parts.push(`${nameOf(id)} moves from slot ${from} to slot ${to}.`);
  if (column.joined.length) parts.push(`${names(column.joined)} ${verb(column.joined, "joins", "join")}.`);
  parts.push(...promptWords(run, of("prefill")));
  if (decode.length) parts.push(`${names(decode)} ${verb(decode, "decodes", "decode")}: ${decode.length} ${verb(decode, "token", "tokens")}.`);
  if (wasted.length) parts.push(`Computed for nothing: ${names(wasted)} (${whyWasted(run, column)}).`);
  if (column.queue.length) parts.push(`Waiting: ${names(column.queue)}.`);
  return parts.join(" ");
}

function idleWords(run, place) {
  const next = run.columns[place + 1];
  if (!next) return "All requests have been served.";
  const host = next.begin - run.columns[place].end <= state.settings.host + 0.01;
  return host ? "The device waits for the host." : "Idle, until the next request comes.";
}

function promptWords(run, cells) {
  const isWhole = (cell) => cell.from === 0 && cell.to === run.requests[cell.id].prompt;
  const whole = cells.filter(isWhole), parts = [];
  const tokens = whole.reduce((sum, cell) => sum + cell.to, 0);
  if (whole.length === 1) parts.push(`${nameOf(whole[0].id)}’s prompt is read, ${tokens} ${tokens === 1 ? "token" : "tokens"}.`);
  if (whole.length > 1) parts.push(`The prompts of ${names(whole.map((cell) => cell.id))} are read, ${tokens} tokens.`);
  for (const cell of cells) {
    if (!isWhole(cell)) parts.push(`${nameOf(cell.id)}’s prompt: tokens ${cell.from + 1} to ${cell.to} of ${run.requests[cell.id].prompt}.`);
  }
  return parts;
}

function whyWasted(run, { cells }) {
  const unread = run.schedule === "continuous" || cells.every((cell) => cell.kind === "wasted");
  return unread ? "an EOS has been drawn but not read yet" : "the group goes on until its longest answer is done";
}

function soFar(run, { place }, hide) {
  const { used, all } = Scheduler.placesOf(run, place + 1);
  const of = hide ? "" : ` of ${run.columns.length}`;
  return `iteration ${place + 1}${of} · ${used} of ${all} places used so far, ${percent(all ? used / all : 0)}`;
}

// Timelines

function scaleFor(until, columns, box) {
  const width = Math.max(200, box.clientWidth - 74);
  return Math.max(Math.min(width, columns * 40), columns * 7) / until;
}

function drawTimelines() {
  const moment = state.moments[state.place], box = byId("timelines"), hide = byId("predict").checked;
  const all = Object.values(state.runs);
  const until = inTime() ? Math.max(...all.map((run) => run.columns.at(-1).end)) : Math.max(...all.map((run) => run.columns.length));
  const scale = scaleFor(until, Math.max(...all.map((run) => run.columns.length)), box);
  const said = [];
  const bands = all.map((run) => {
    const at = columnAt(run, moment), column = run.columns[at.place];
    const now = !at.running ? null : inTime() ? [column.begin, column.end] : [at.place, at.place + 1];
    const known = inTime() ? (at.running ? column.end : moment) : moment + 1;
    const words = wordsOf(run, at);
    said.push(`${SCHEDULES[run.schedule]}: ${words}`);
    return Drawing.band({
      name: SCHEDULES[run.schedule], figures: soFar(run, at, hide), word: "slot", lanes: run.slots, words,
      bars: Drawing.barsOf(run, byId("axis").value), until, scale, now, known, hide, whole: !inTime(), unit: "ms",
    });
  });
  const { scrollLeft } = box;
  box.replaceChildren(...bands);
  box.scrollLeft = scrollLeft;
  keepInView(box, (inTime() ? moment : moment + 0.5) * scale);
  const title = inTime() ? `${round(moment, 0)} ms` : `iteration ${moment + 1} of ${state.moments.length}`;
  byId("where").textContent = hide ? title.replace(/ of.*/, "") : title;
  byId("position").value = state.place;
  byId("position").setAttribute("aria-valuetext", title);
  if (!state.timer) byId("said").textContent = `${title}. ${said.join(" ")}`; // read out, unless it plays
}

function keepInView(box, x) {
  const room = box.clientWidth - 74;
  if (x < box.scrollLeft || x > box.scrollLeft + room - 30) box.scrollLeft = x - room / 2;
}

function drawRequests() {
  const run = state.runs.continuous, at = columnAt(run, state.moments[state.place]);
  const here = at.place < 0 ? { cells: [], begin: 0 } : run.columns[at.place];
  const joined = new Set(run.columns.slice(0, at.place + 1).flatMap((column) => column.joined));
  const toCome = new Set(run.columns.slice(at.place + 1).flatMap((column) => column.cells.map((cell) => cell.id)));
  const active = new Map(at.running ? here.cells.map((cell) => [cell.id, cell.kind]) : []);
  const stateOf = (request) => {
    const kind = active.get(request.id);
    if (kind) return { prefill: "reads its prompt", decode: "decodes", wasted: "has ended, not read yet" }[kind];
    if (joined.has(request.id)) return toCome.has(request.id) ? "running" : "done";
    return request.arrival <= here.begin ? "waits" : `comes at ${round(request.arrival, 0)} ms`;
  };
  byId("requests").replaceChildren(...run.requests.map((request) => {
    const words = stateOf(request), kind = active.has(request.id) ? "running" : words.split(" ")[0];
    return make("li", { class: `hue${request.id % Drawing.HUES} ${kind}`, title: words },
      make("b", {}, nameOf(request.id)), ` ${request.prompt}/${request.output}`, make("span", {}, words === "done" ? " ✓" : ""), make("span", { class: "hidden" }, `, ${words}`));
  }));
}

// Figures

function table(target, head, rows) {
  const cell = (value, name) => make(name, name === "th" ? { scope: "row" } : {}, ...(Array.isArray(value) ? value : [value]));
  target.replaceChildren(
    make("thead", {}, make("tr", {}, ...head.map((name) => make("th", { scope: "col" }, name)))),
    make("tbody", {}, ...rows.map((row) => make("tr", { class: row.class ?? null }, ...row.cells.map((value, place) => cell(value, place ? "td" : "th"))))),
  );
}

function drawFigures() {
  const runs = Object.values(state.runs);
  const row = (name, value, show, best) => {
    const values = runs.map(value), top = best && best(...values);
    const unequal = new Set(values.map(show)).size > 1;
    return { cells: [name, ...values.map((one) => (unequal && best && show(one) === show(top) ? [make("b", {}, show(one))] : show(one)))] };
  };
  const ms = (value) => `${round(value, value < 100 ? 1 : 0)} ms`;
  table(byId("figures"), ["", "Static", "Dynamic", "Continuous"], [
    row("Iterations", (run) => run.columns.length, String, Math.min),
    row("Time", (run) => run.figures.time, ms, Math.min),
    row("Tokens per second", (run) => run.figures.tokensPerSecond, (value) => String(round(value, 0)), Math.max),
    row("Places used", (run) => run.figures.utilization, percent, Math.max),
    row("Wasted rows", (run) => run.figures.places.wasted, String, Math.min),
    row("Time to first token", (run) => run.figures.ttft, ms, Math.min),
    row("Latency", (run) => run.figures.latency, ms, Math.min),
  ]);
}

/* The same requests in other numbers of slots and under all cost models: how full the slots are says little of the time. */
function drawMislead() {
  const { slots, cost } = state.settings, costs = Object.keys(Scheduler.COSTS);
  const runWith = (schedule, count, model) => Scheduler.simulate(schedule, state.requests, { ...state.settings, slots: count, cost: model });
  const rowOf = (schedule, count) => {
    const runs = costs.map((model) => runWith(schedule, count, model));
    return { schedule, count, used: runs[costs.indexOf(cost)].figures.utilization, speeds: runs.map((run) => run.figures.tokensPerSecond) };
  };
  const counts = [...new Set([1, Math.ceil(slots / 2), slots, 2 * slots])].sort((a, b) => a - b);
  const rows = [rowOf("static", slots), rowOf("dynamic", slots), ...counts.map((count) => rowOf("continuous", count))];
  table(byId("mislead"), ["tokens per second", "places used", ...costs], rows.map((row) => ({
    class: row.count === slots ? "chosen" : null,
    cells: [`${row.schedule}, ${row.count} ${row.count === 1 ? "slot" : "slots"}`, percent(row.used), ...row.speeds.map((speed) => String(round(speed, 0)))],
  })));
  const few = rows[2], many = rows.at(-1), times = many.speeds.map((speed, place) => `${round(speed / few.speeds[place], 1)} × (${costs[place]})`);
  byId("mislead-words").textContent = `The share of places used says how full the slots are, not how fast the engine is. With one slot ${percent(few.used)} of the`
    + ` places are used, with ${many.count} slots ${percent(many.used)}; yet ${many.count} slots produce ${times.join(", ")} the tokens per second of one.`
    + ` The requests are the same in every line: what a slot is worth depends on what the rows of an iteration share.`;
}

// Predictions

function startPredicting() {
  byId("axis").value = "iterations";
  setMoments();
  state.score = [0, 0];
  askNext(state.place >= state.moments.length - 1 ? 0 : state.place);
}

/* Go on to the next iteration after which a request joins or leaves, from `place` on. */
function askNext(place) {
  const found = Predict.nextPlace(state.runs.continuous, place);
  go(found < 0 ? state.moments.length - 1 : found);
  askHere();
}

function askHere() {
  const run = state.runs.continuous;
  state.asked = Predict.question(run, state.place);
  byId("verdict").textContent = "";
  byId("check").disabled = byId("next-question").disabled = !state.asked;
  byId("choices").replaceChildren();
  showScore();
  if (!state.asked) {
    byId("asked").textContent = "Nothing is left to predict. Go back, or choose other requests.";
    return;
  }
  const { kind, waiting } = state.asked, next = `iteration ${state.place + 2}, the first that is covered below`;
  if (kind === "rows") {
    byId("asked").textContent = `How many rows are there in ${next}? Count the requests that decode and those whose prompt is read.`;
    byId("choices").append(make("label", {}, "Rows ", make("input", { type: "number", min: 0, max: run.slots, id: "rows" })));
  } else {
    byId("asked").textContent = `Which requests join in ${next}? Choose all that do, or none. Waiting by then: ${names(waiting, 99)}.`;
    byId("choices").append(...waiting.map(choiceOf));
  }
}

function showScore() {
  byId("score").textContent = `${state.score[0]} of ${state.score[1]} right`;
}

function choiceOf(id) {
  const button = make("button", { type: "button", "aria-pressed": "false", "data-id": id, class: `choice hue${id % Drawing.HUES}` }, nameOf(id));
  button.addEventListener("click", () => button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") !== "true")));
  return button;
}

function checkAnswer() {
  const { asked } = state;
  if (!asked) return;
  const rows = byId("rows");
  if (rows && rows.value === "") {
    byId("verdict").textContent = "Enter a number first.";
    return;
  }
  const given = rows ? Number(rows.value) : [...document.querySelectorAll(".choice[aria-pressed=true]")].map((button) => Number(button.dataset.id));
  const right = Predict.right(asked, given), next = state.place + 1;
  state.score = [state.score[0] + Number(right), state.score[1] + 1];
  state.asked = null;
  byId("check").disabled = true;
  showScore();
  const answer = rows ? `${asked.answer} ${asked.answer === 1 ? "row" : "rows"}` : asked.answer.length ? names(asked.answer) : "none";
  byId("verdict").textContent = `${right ? "Right" : "No"}: ${answer}. ${wordsOf(state.runs.continuous, { place: next, running: true })}`;
  byId("verdict").className = right ? "right" : "not-right";
  go(next);
  byId("next-question").focus();
}

// Files

async function openFile(file) {
  const words = byId("file-words");
  try {
    if (file.size > 50e6) throw new Error("This file is larger than 50 MB: record fewer requests.");
    state.traces = Trace.read(await file.text());
    words.textContent = "";
  } catch (error) {
    state.traces = [];
    words.textContent = `${file.name}: ${error.message}`;
  }
  drawTraces();
}

function drawTraces() {
  const box = byId("traces");
  box.hidden = byId("serve").hidden = byId("close").hidden = !state.traces.length;
  const until = Math.max(1e-9, ...state.traces.map((run) => run.until));
  box.replaceChildren(...state.traces.map((run) => {
    const scale = Math.max(200, box.clientWidth - 74) / until;
    return Drawing.band({ ...run, unit: run.units, figures: traceWords(run), word: run.slots ? "slot" : "lane", words: run.note, scale });
  }));
}

function traceWords({ figures, lives, until, unit, units }) {
  const inUnits = (value) => `${round(value)} ${round(value) === 1 ? unit : units}`;
  const parts = [`${lives.length} requests in ${inUnits(until)}`, `${round(figures.tokensPerUnit, 1)} tokens per ${unit}`];
  if (figures.utilization !== null) parts.push(`slots in use ${percent(figures.utilization)}`);
  if (figures.ttft !== null) parts.push(`mean time to first token ${inUnits(figures.ttft)}`);
  if (figures.latency !== null) parts.push(`mean latency ${inUnits(figures.latency)}`);
  return parts.join(" · ");
}

function serveTrace() {
  form.source.value = "list";
  form.list.value = Trace.asList(state.traces[0], 60, PASS);
  byId("settings").open = true;
  byId("about").textContent = `The requests of ${state.traces[0].name}, at most the first 60.`;
  serve();
  byId("timelines").scrollIntoView();
}

// Wiring

function choosePreset(key) {
  const preset = PRESETS[key];
  fill(preset.settings);
  byId("axis").value = preset.axis ?? "iterations";
  byId("about").textContent = preset.about;
  for (const button of byId("presets").children) button.setAttribute("aria-pressed", String(button.dataset.key === key));
  serve(byId("predict").checked ? 0 : preset.place ?? 0);
}

function onKey(event) {
  const on = event.target.closest("input:not([type=checkbox]):not([type=range]), select, textarea");
  if (on || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === " " && event.target.closest("button, summary, a, input")) return; // it has its own meaning there
  const acts = { ArrowRight: () => step(1), ArrowLeft: () => step(-1), Home: () => move(0), End: () => move(state.moments.length - 1), " ": play };
  if (!acts[event.key]) return;
  event.preventDefault();
  acts[event.key]();
}

/* A step by hand. */
function move(place) {
  pause();
  go(place);
  if (byId("predict").checked) askHere();
}

const step = (by) => move(state.place + by);

function wire() {
  for (const [key, { name }] of Object.entries(PRESETS)) {
    const button = make("button", { type: "button", "data-key": key, "aria-pressed": "false" }, name);
    button.addEventListener("click", () => choosePreset(key));
    byId("presets").append(button);
  }
  form.strategy.append(...Object.keys(Scheduler.RANKINGS).map((key) => make("option", { value: key }, STRATEGY_NAMES[key])));
  for (const list of [form.prompts, form.outputs]) list.append(...Object.keys(Scheduler.LENGTHS).map((key) => make("option", { value: key }, key)));
  form.addEventListener("input", () => {
    for (const button of byId("presets").children) button.setAttribute("aria-pressed", "false");
    byId("about").textContent = "Your own settings.";
    serve();
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  const clicks = { first: () => move(0), back: () => step(-1), step: () => step(1), last: () => move(state.moments.length - 1), play };
  for (const [id, act] of Object.entries(clicks)) byId(id).addEventListener("click", act);
  byId("position").addEventListener("input", () => move(Number(byId("position").value)));
  byId("axis").addEventListener("input", () => { setMoments(); go(0); });
  byId("predict").addEventListener("input", () => {
    const on = byId("predict").checked;
    byId("question").hidden = !on;
    byId("axis").disabled = byId("play").disabled = on;
    pause();
    if (on) startPredicting();
    else go(state.place);
  });
  byId("check").addEventListener("click", checkAnswer);
  byId("choices").addEventListener("keydown", (event) => { if (event.key === "Enter" && event.target.id === "rows") checkAnswer(); });
  byId("next-question").addEventListener("click", () => askNext(state.asked ? state.place + 1 : state.place));
  byId("file").addEventListener("change", (event) => { if (event.target.files[0]) openFile(event.target.files[0]); });
  byId("serve").addEventListener("click", serveTrace);
  byId("close").addEventListener("click", () => { state.traces = []; byId("file").value = ""; drawTraces(); });
  addEventListener("dragover", (event) => { event.preventDefault(); document.body.classList.add("dropping"); });
  addEventListener("dragleave", (event) => { if (!event.relatedTarget) document.body.classList.remove("dropping"); });
  addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("dropping");
    if (event.dataTransfer.files[0]) openFile(event.dataTransfer.files[0]).then(() => byId("drop").scrollIntoView());
  });
  addEventListener("keydown", onKey);
  addEventListener("resize", () => { drawTimelines(); drawTraces(); });
}

// In the repository, and not in a built book, the chapter is a Markdown file.
const chapter = document.querySelector("[data-source]");
if (location.pathname.includes("/src/explore/")) chapter.href = chapter.dataset.source;
wire();
choosePreset(PRESETS[location.hash.slice(1)] ? location.hash.slice(1) : "4-12-8");
