"use strict";
/* The schedules of Week 2 in small: static, dynamic and continuous batching, without a model and without a page.

   What decides here is what decides in src/tiny_llm_ref: `planStep` is scheduling.py, `Slots` is slots.py, `Continuous` is
   engine.py and `Groups` is dynamic_batching.py. tests/kit/test_explore_page.py runs both on the same requests.
   Times are milliseconds. */

const Scheduler = (() => {
  const PASS = 10; // ms to read all the weights once, the round number of the chapter

  /* How long an iteration takes, from the numbers of tokens in its calls of the model. */
  const COSTS = {
    flat: () => () => PASS,
    linear: (knee) => (calls) => calls.reduce((sum, tokens) => sum + (tokens * PASS) / knee, 0),
    roofline: (knee) => (calls) => calls.reduce((sum, tokens) => sum + Math.max(PASS, (tokens * PASS) / knee), 0),
  };

  /* A strategy gives a ranking: the lowest goes first, and among equals the one that came first. FIFO needs none. */
  const RANKINGS = {
    fifo: null,
    "shortest-remaining": () => (request) => request.prompt - request.offset + request.maxTokens,
    "length-balance": (running) => {
      if (!running.length) return () => 0;
      const mean = running.reduce((sum, other) => sum + Math.max(other.offset, other.prompt), 0) / running.length;
      return (request) => Math.abs(request.prompt - mean);
    },
  };
  const MAX_OVERTAKES = 32;

  function choose(strategy, waiting, running, count) {
    const ranking = RANKINGS[strategy];
    if (!ranking) return waiting.slice(0, count);
    const patient = waiting.findIndex((request) => request.overtaken < MAX_OVERTAKES);
    const starving = waiting.slice(0, patient < 0 ? count : Math.min(patient, count));
    const rank = ranking(running);
    const others = waiting.slice(starving.length).sort((a, b) => rank(a) - rank(b)); // a stable sort: arrival decides ties
    return [...starving, ...others.slice(0, count - starving.length)];
  }

  /* Each request that decodes gets a token, and up to `chunk` prompt tokens are computed alongside. Of the prompts only the first
     may be cut: a chunk costs a pass over the weights however short it is. */
  function planStep(waiting, running, { slots, chunk, strategy }) {
    const decode = running.filter((request) => request.offset >= request.prompt);
    const candidates = running.filter((request) => request.offset < request.prompt);
    const free = slots - running.length;
    if (free) candidates.push(...choose(strategy, waiting, running, free));
    const prefill = [];
    let budget = chunk;
    for (const request of candidates) {
      const left = request.prompt - request.offset;
      if (!budget || (prefill.length && left > budget)) break;
      const tokens = Math.min(left, budget);
      prefill.push({ request, from: request.offset, to: request.offset + tokens });
      budget -= tokens;
    }
    return { decode, prefill };
  }

  /* The rows of the batch. `owners[slot]` is a request or null. */
  class Slots {
    constructor(count) { this.owners = Array(count).fill(null); }
    allocate(request) { this.owners[this.owners.indexOf(null)] = request; }
    release(request) {
      const slot = this.owners.indexOf(request);
      if (slot >= 0) this.owners[slot] = null;
    }
    /* The highest owner moves into the lowest gap, so that the busy rows are one slice. */
    condense() {
      const moves = [];
      for (;;) {
        const to = this.owners.indexOf(null);
        const from = this.owners.findLastIndex((owner) => owner);
        if (to < 0 || from < to) return moves;
        moves.push({ id: this.owners[from].id, from, to });
        [this.owners[to], this.owners[from]] = [this.owners[from], null];
      }
    }
  }

  /* A clock, and a device that computes one launch after another while the host plans. Only waiting moves the clock, and the
     host's own work on a launch. */
  class Device {
    constructor(cost, host) { Object.assign(this, { cost, host, now: 0, busyUntil: 0, columns: [] }); }
    launch(calls, column) {
      this.now += this.host;
      const begin = Math.max(this.busyUntil, this.now);
      this.busyUntil = begin + this.cost(calls);
      this.columns.push({ ...column, begin, end: this.busyUntil });
      return this.busyUntil;
    }
    waitUntil(moment) { this.now = Math.max(this.now, moment); }
  }

  const allLaunched = (request) => request.offset >= request.prompt + request.maxTokens - 1;
  const without = (list, gone) => list.filter((request) => request !== gone);
  const idsOf = (requests) => requests.map((request) => request.id);
  /* A row that decodes. Where the answer has ended unseen, the token is for nothing. */
  function decodeCell(request, slot) {
    const token = request.offset - request.prompt + 1;
    return { id: request.id, slot, kind: token > request.output ? "wasted" : "decode", token };
  }
  const prefillCell = ({ request, from, to }, slot) => ({ id: request.id, slot, kind: "prefill", from, to });

  /* What the two engines share: what waits, what runs, and tokens that come back. */
  class Engine {
    constructor(settings, device) {
      Object.assign(this, { settings, device, waiting: [], running: [], inFlight: null, log: [], left: [] });
    }
    get hasWork() { return this.waiting.length + this.running.length > 0; }
    submit(request) {
      request.came = this.device.now;
      this.waiting.push(request);
    }
    admit(request) {
      for (const other of this.waiting) {
        if (other === request) break;
        other.overtaken += 1;
      }
      this.waiting = without(this.waiting, request);
      this.running.push(request);
    }
    /* Waits for the tokens of a launch and hands them out; returns those that have ended by them. */
    read(launched) {
      if (!launched || !launched.tokens.length) return [];
      this.device.waitUntil(launched.done);
      const running = launched.tokens.filter((request) => this.running.includes(request));
      for (const request of running) {
        request.taken += 1;
        request.first ??= this.device.now;
      }
      const ended = running.filter((request) => request.taken === Math.min(request.output, request.maxTokens));
      for (const request of ended) {
        request.end = this.device.now;
        this.running = without(this.running, request);
      }
      return ended;
    }
    close(entry, ended) { this.log.push({ ...entry, ended: idsOf(ended), time: this.device.now }); }
  }

  /* Requests join and leave in every iteration: make room, plan, launch, read. */
  class Continuous extends Engine {
    constructor(settings, device) {
      super(settings, device);
      this.slots = new Slots(settings.slots);
    }
    get startsAt() { return this.hasWork ? this.device.now : Infinity; }

    iterate() {
      const moves = this.makeRoom();
      const claims = this.running.filter((request) => !allLaunched(request));
      const plan = planStep(this.waiting, claims, this.settings);
      const launched = this.launch(plan, moves);
      const entry = { active: plan.decode.length + plan.prefill.length, queue: idsOf(this.waiting), chunks: chunksOf(plan) };
      // Launching ahead, an iteration reads what the one before launched: the device never waits for the host.
      const landed = this.settings.ahead ? this.inFlight : launched;
      this.inFlight = launched;
      const ended = this.read(landed);
      for (const request of ended) this.leave(request); // an end by EOS is only known now
      this.close({ ...entry, slots: this.slots.owners.map((owner) => owner && owner.id) }, ended);
    }
    /* An end by max_tokens is known beforehand: the slot is free as soon as the last token is launched. */
    makeRoom() {
      for (const request of this.running) if (allLaunched(request)) this.leave(request);
      return this.slots.condense();
    }
    leave(request) {
      this.slots.release(request);
      if (!request.gone) this.left.push(request.id);
      request.gone = true;
    }
    launch({ decode, prefill }, moves) {
      if (!decode.length && !prefill.length) return null;
      const rows = this.slots.owners.filter((owner) => decode.includes(owner));
      for (const request of rows) request.offset += 1;
      const cells = rows.map(decodeCell);
      // A prompt that is being read has a claim on the next row. It gets its slot when its first token is launched.
      cells.push(...prefill.map((chunk, place) => prefillCell(chunk, rows.length + place)));
      const joined = prefill.map((piece) => piece.request).filter((request) => this.waiting.includes(request));
      for (const request of joined) this.admit(request);
      const calls = prefill.map(({ from, to }) => to - from);
      if (rows.length) calls.unshift(rows.length);
      const about = { cells, moves, calls, joined: idsOf(joined), left: this.left, queue: idsOf(this.waiting) };
      this.left = [];
      const done = this.device.launch(calls, { ...about, iteration: this.log.length });
      return { done, tokens: [...rows, ...prefill.map((piece) => this.advance(piece)).filter(Boolean)] };
    }
    /* Returns the request if the chunk ends its prompt, since that brings its first token. */
    advance({ request, to }) {
      request.offset = to;
      if (to < request.prompt) return null;
      if (!allLaunched(request)) this.slots.allocate(request);
      return request;
    }
  }

  const chunksOf = ({ prefill }) => prefill.map(({ request, from, to }) => [request.id, from, to]);

  /* Static and dynamic batching: a group starts together, and no request joins it before its longest answer is done. A group
     starts when it is full, or when its oldest member has waited for `maxWait`: 0 is static batching. */
  class Groups extends Engine {
    constructor(settings, device, maxWait) {
      super(settings, device);
      this.maxWait = maxWait;
      this.group = [];
    }
    get startsAt() {
      if (this.running.length || this.waiting.length >= this.settings.slots) return this.device.now;
      return this.waiting.length ? this.waiting[0].came + this.maxWait : Infinity;
    }
    iterate() {
      const starts = !this.running.length;
      const chunks = starts ? this.start() : [];
      const active = this.running.length;
      const queue = idsOf(this.waiting);
      const started = this.inFlight;
      if (!starts || this.settings.ahead) this.inFlight = this.decode();
      const ended = this.read(this.settings.ahead ? started : this.inFlight);
      this.left.push(...idsOf(ended));
      this.close({ active, queue, chunks, slots: idsOf(this.group) }, ended);
    }
    start() {
      this.group = this.waiting.slice(0, this.settings.slots);
      const pieces = this.group.flatMap((request) => piecesOf(request, this.settings.chunk));
      for (const request of this.group) {
        this.admit(request);
        request.offset = request.prompt;
      }
      const calls = pieces.map(({ from, to }) => to - from);
      const cells = this.group.map((request, slot) => prefillCell({ request, from: 0, to: request.prompt }, slot));
      this.inFlight = this.launched(calls, cells, idsOf(this.group));
      return chunksOf({ prefill: pieces });
    }
    /* All rows go on until the last answer is done, and what finished ones compute is thrown away. */
    decode() {
      if (this.running.every(allLaunched)) return null;
      for (const request of this.group) request.offset += 1;
      return this.launched([this.group.length], this.group.map(decodeCell), []);
    }
    launched(calls, cells, joined) {
      const about = { cells, moves: [], calls, joined, left: this.left, queue: idsOf(this.waiting) };
      this.left = [];
      const done = this.device.launch(calls, { ...about, iteration: this.log.length });
      return { done, tokens: [...this.group] };
    }
  }

  function piecesOf(request, chunk) {
    const pieces = [];
    for (let from = 0; from < request.prompt; from += chunk) {
      pieces.push({ request, from, to: Math.min(from + chunk, request.prompt) });
    }
    return pieces;
  }

  /* Serve requests {prompt, output, maxTokens, arrival} by one schedule: "static", "dynamic" or "continuous".
     An answer that is shorter than its maxTokens ends by EOS, which is its last token.

     Settings: slots, chunk, strategy, ahead, cost, knee, host (ms per launch), maxWait (ms, of dynamic).
     Returns: columns (what the device computed, launch by launch), log (iteration by iteration), requests, figures. */
  function simulate(schedule, requests, settings) {
    const device = new Device(COSTS[settings.cost](settings.knee), settings.host);
    const maxWait = schedule === "dynamic" ? settings.maxWait : 0;
    const engine = schedule === "continuous" ? new Continuous(settings, device) : new Groups(settings, device, maxWait);
    const all = requests.map((request, id) => ({ ...request, id, offset: 0, taken: 0, overtaken: 0 }));
    const coming = [...all];
    while (engine.hasWork || coming.length) {
      while (coming.length && coming[0].arrival <= device.now) engine.submit(coming.shift());
      const moment = Math.min(engine.startsAt, coming.length ? coming[0].arrival : Infinity);
      if (device.now < moment) device.waitUntil(moment);
      else engine.iterate();
    }
    const run = { schedule, slots: settings.slots, columns: device.columns, log: engine.log, requests: all };
    return { ...run, figures: figuresOf(run, device.now) };
  }

  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / (values.length || 1);

  /* Of a run, or of its first `columns`. A place is a slot in an iteration; one is used if it brings a request on. */
  function placesOf(run, columns = run.columns.length) {
    const cells = run.columns.slice(0, columns).flatMap((column) => column.cells);
    const wasted = cells.filter((cell) => cell.kind === "wasted").length;
    return { used: cells.length - wasted, wasted, all: run.slots * Math.min(columns, run.columns.length) };
  }

  function figuresOf(run, end) {
    const { requests } = run;
    const time = end - (requests.length ? requests[0].arrival : 0);
    const tokens = requests.reduce((sum, request) => sum + request.taken, 0);
    const places = placesOf(run);
    return {
      time,
      tokensPerSecond: time ? (1000 * tokens) / time : 0,
      utilization: places.all ? places.used / places.all : 0,
      places,
      ttft: mean(requests.map((request) => request.first - request.arrival)),
      latency: mean(requests.map((request) => request.end - request.arrival)),
    };
  }

  /* Numbers between 0 and 1, the same for the same seed ("Random number generators: good ones are hard to find", Park and
     Miller, CACM 1988, with the multiplier of their remark of 1993). */
  function randomFrom(seed) {
    const modulus = 2 ** 31 - 1;
    let state = 1 + (((seed * 7919) % (modulus - 1)) + (modulus - 1)) % (modulus - 1);
    const next = () => (state = (state * 48271) % modulus) / modulus;
    for (let warmUp = 0; warmUp < 4; warmUp++) next(); // the first numbers of neighbouring seeds are alike
    return next;
  }

  const normal = (random) => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
  const SIGMA = 0.8;
  /* Lengths with a given mean: only the shapes differ. */
  const LENGTHS = {
    equal: (mean) => mean,
    "log-normal": (mean, random) => mean * Math.exp(SIGMA * normal(random) - (SIGMA * SIGMA) / 2),
    bimodal: (mean, random) => (random() < 0.8 ? mean / 2 : 3 * mean),
  };
  const LONGEST = 8; // times the mean

  /* Requests at random. A rate of 0 means that all are there from the start. */
  function draw({ count, prompts, promptMean, outputs, outputMean, rate, seed }) {
    const random = randomFrom(seed);
    const length = (kind, mean) => Math.round(Math.min(LONGEST * mean, Math.max(1, LENGTHS[kind](mean, random))));
    let arrival = 0;
    return Array.from({ length: count }, () => {
      const request = { prompt: length(prompts, promptMean), output: length(outputs, outputMean), arrival };
      if (rate) arrival += (-1000 * Math.log(1 - random())) / rate; // the first one comes at 0
      return request;
    });
  }

  const MOST = 100, MOST_TOKENS = 10000; // what a browser draws at once

  /* "3/4, 3/12@50": a prompt of 3 tokens and an answer of 4; one of 12 that comes at 50 ms. Throws an Error that says why. */
  function parseList(text) {
    const requests = text.split(/[\s,;]+/).filter(Boolean).map((item) => {
      const found = /^(\d{1,4})\/(\d{1,4})(?:@(\d{1,6}(?:\.\d{1,3})?))?$/.exec(item);
      if (!found || !Number(found[1]) || !Number(found[2])) {
        throw new Error(`“${item}” is not a request: write prompt/answer, such as 3/4, or 3/4@50 for one that comes at 50 ms.`);
      }
      return { prompt: Number(found[1]), output: Number(found[2]), arrival: Number(found[3] ?? 0) };
    });
    if (!requests.length || requests.length > MOST) throw new Error(`Write 1 to ${MOST} requests, such as 3/4, 3/12, 3/8.`);
    const tokens = requests.reduce((sum, { output }) => sum + output, 0);
    if (tokens > MOST_TOKENS) throw new Error(`The answers have ${tokens} tokens in all: ${MOST_TOKENS} at most, please.`);
    return requests.sort((a, b) => a.arrival - b.arrival);
  }

  return { simulate, placesOf, draw, parseList, PASS, COSTS, RANKINGS, LENGTHS };
})();
