"use strict";
/* Reads a file that `--trace` of a tiny-llm command wrote: a Chrome trace, see src/tiny_llm_kit/timeline/chrome_trace.py. */

const Trace = (() => {
  const MADE_BY = "tiny-llm timeline";
  const MOST_LANES = 256, MOST_STAYS = 5000;
  const REMEDY = "Give the .json file that a tiny-llm command wrote with --trace.";

  /* The runs in the text of a file. Throws an Error that says what the file is instead. */
  function read(text) {
    let found;
    try {
      found = JSON.parse(text);
    } catch {
      throw new Error(`This is not JSON. ${REMEDY}`);
    }
    if (!found || !Array.isArray(found.traceEvents)) throw new Error(`This is JSON, but not a trace. ${REMEDY}`);
    if (found.otherData?.made_by !== MADE_BY) throw new Error(`This is a trace, but from another program. ${REMEDY}`);
    try {
      return found.otherData.runs.map((about, place) => runOf(about, found.traceEvents.filter((event) => event.pid === place + 1)));
    } catch (error) {
      throw new Error(`This trace cannot be drawn: it was changed, or it is too large (${error.message}). ${REMEDY}`);
    }
  }

  /* A run: lanes, and the lives of its requests. Times are in its own unit, as a rule seconds. */
  function runOf({ name, lanes, slots, seconds, unit, note }, events) {
    const lives = new Map();
    for (const event of events) if (event.ph === "b" && !lives.has(event.args.request)) lives.set(event.args.request, lifeOf(event));
    const bars = events.filter((event) => event.ph === "X").map((event) => barOf(event, lives.get(event.args.request)));
    for (const event of events) if (event.ph === "i") keepMoment(event, lives.get(event.args.request));
    const units = unit === "s" ? "s" : `${unit}s`; // in the plural; other units are words
    const about = { name: String(name), note: String(note ?? ""), unit: String(unit), units };
    const run = { ...about, lanes, slots, until: seconds, bars, lives: [...lives.values()] };
    check(run);
    return { ...run, figures: figuresOf(run) };
  }

  const lifeOf = ({ ts, args }) => ({
    id: args.request - 1,
    name: String(args.name),
    prompt: args.prompt_tokens,
    output: args.generated,
    arrival: ts / 1e6,
    first: null,
    end: null,
  });

  const barOf = ({ ts, dur, tid, cat }, life) => ({
    id: life.id,
    name: life.name,
    lane: tid - 1,
    kind: cat === "prefill" ? "prefill" : "decode",
    label: cat !== "prefill", // it lies on top of its request
    begin: ts / 1e6,
    end: (ts + dur) / 1e6,
  });

  function keepMoment({ name, ts }, life) {
    life[name === "first token" ? "first" : "end"] = ts / 1e6;
  }

  function check({ lanes, until, bars, lives }) {
    const whole = (value, most) => Number.isInteger(value) && value >= 0 && value <= most;
    if (!whole(lanes, MOST_LANES)) throw new Error(`${lanes} lanes`);
    if (!(until >= 0 && until < 1e9)) throw new Error(`it takes ${until}`);
    if (bars.length > MOST_STAYS) throw new Error(`${bars.length} bars`);
    const fits = (bar) => whole(bar.lane, lanes - 1) && bar.begin <= bar.end && bar.end <= until * 1.001 + 1e-6;
    if (!bars.every(fits)) throw new Error("a bar that lies outside");
    if (!lives.every((life) => whole(life.prompt, 1e9) && whole(life.output, 1e9) && life.arrival >= 0)) throw new Error("a request without its size");
  }

  const mean = (values) => (values.length ? values.reduce((sum, value) => sum + value, 0) / values.length : null);

  function figuresOf({ until, slots, bars, lives }) {
    const stays = bars.filter((bar) => bar.kind === "decode"); // a stay in a lane; prompts lie on top of them
    const held = stays.reduce((sum, bar) => sum + bar.end - bar.begin, 0);
    const spans = (moment) => lives.filter((life) => life[moment] !== null).map((life) => life[moment] - life.arrival);
    return {
      tokensPerUnit: until ? lives.reduce((sum, life) => sum + life.output, 0) / until : 0,
      utilization: slots && until ? held / (slots * until) : null,
      ttft: mean(spans("first")),
      latency: mean(spans("end")),
    };
  }

  /* Its requests, as the text that the page's list takes; as many as it can. Milliseconds; a step counts as `pass`. */
  function asList(run, most, pass) {
    const scale = run.unit === "s" ? 1000 : pass;
    const served = run.lives.filter((life) => life.prompt && life.output && life.prompt < 1e4 && life.output < 1e4).slice(0, most);
    const start = served.length ? served[0].arrival : 0;
    return served.map(({ prompt, output, arrival }) => {
      const moment = Math.round((arrival - start) * scale);
      return `${prompt}/${output}${moment > 0 ? `@${moment}` : ""}`;
    }).join(", ");
  }

  return { read, asList };
})();
