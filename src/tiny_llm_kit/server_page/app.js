// The page of a tiny-llm server. What a model says is text and never markup: all of it goes through textContent.
const byId = (id) => document.getElementById(id);
const chats = new Set();
let model = "", made = 0;

function headers() {
  const key = byId("key").value.trim();
  return { "content-type": "application/json", ...(key && { authorization: `Bearer ${key}` }) };
}

async function problem(response) {
  const body = await response.json().catch(() => ({}));
  return body.error?.message ?? `the server answered ${response.status}`;
}

// The data of each server-sent event of a response.
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    held += value.replaceAll("\r", "");
    const parts = held.split("\n\n");
    held = parts.pop();
    for (const part of parts) {
      const lines = part.split("\n").filter((line) => line.startsWith("data:"));
      if (lines.length) yield lines.map((line) => line.slice(5).trimStart()).join("\n");
    }
  }
}

class Chat {
  constructor() {
    this.name = `chat ${++made}`;
    this.messages = [];
    this.element = byId("chat").content.firstElementChild.cloneNode(true);
    const find = (selector) => this.element.querySelector(selector);
    [this.log, this.form, this.text, this.send, this.stop] = [".log", "form", "textarea", ".send", ".stop"].map(find);
    find("h2").textContent = this.name;
    this.element.setAttribute("aria-label", this.name);
    this.log.setAttribute("aria-label", `Conversation of ${this.name}`);
    find(".remove").setAttribute("aria-label", `Remove ${this.name}`);
    find(".remove").addEventListener("click", () => this.remove());
    this.stop.addEventListener("click", () => this.abort?.abort());
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (this.ask(this.text.value)) this.text.value = "";
    });
    sendOnEnter(this.text);
    chats.add(this);
    byId("chats").append(this.element);
  }

  remove() {
    this.abort?.abort();
    chats.delete(this);
    this.element.remove();
    byId("add").focus();
  }

  line(kind, text) {
    const line = document.createElement("p");
    line.className = kind;
    line.textContent = text;
    this.log.append(line);
    this.log.scrollTop = this.log.scrollHeight;
    return line;
  }

  // Whether the question was taken: a chat that is being answered takes no other.
  ask(text) {
    if (this.abort || !text.trim()) return false;
    this.messages.push({ role: "user", content: text });
    this.line("user", text);
    this.answer();
    return true;
  }

  async answer() {
    this.abort = new AbortController();
    [this.send.disabled, this.stop.hidden] = [true, false];
    const line = this.line("assistant", ""), began = performance.now();
    let answer = "", ended = null, usage = null;
    try {
      const number = (name) => this.element.querySelector(name).valueAsNumber;
      const response = await fetch("v1/chat/completions", {
        method: "POST",
        headers: { ...headers(), "x-request-id": `${this.name} ${this.messages.length}` },
        body: JSON.stringify({
          model, messages: this.messages, stream: true, stream_options: { include_usage: true },
          max_tokens: number(".max-tokens") || null, temperature: number(".temperature"),
        }),
        signal: this.abort.signal,
      });
      if (!response.ok) {
        if (response.status === 401) byId("key-field").hidden = false;
        throw new Error(await problem(response));
      }
      for await (const data of events(response)) {
        if (data === "[DONE]") break;
        const chunk = JSON.parse(data);
        if (chunk.error) throw new Error(chunk.error.message);
        ours.set(Number(chunk.id.split("-")[1]), this.name);
        usage = chunk.usage ?? usage;
        ended = chunk.choices[0]?.finish_reason ?? ended;
        answer += chunk.choices[0]?.delta?.content ?? "";
        const atEnd = this.log.scrollHeight - this.log.scrollTop - this.log.clientHeight < 40;
        line.textContent = answer;
        if (atEnd) this.log.scrollTop = this.log.scrollHeight;
      }
      if (!ended) throw new Error("the answer broke off");
      const seconds = (performance.now() - began) / 1000;
      this.line("note", `${usage?.completion_tokens ?? "?"} tokens in ${seconds.toFixed(1)} s (${ended})`);
    } catch (error) {
      if (error.name === "AbortError") this.line("note", "stopped");
      else this.line("note bad", error.message);
    }
    if (answer) this.messages.push({ role: "assistant", content: answer });
    else this.messages.pop();
    this.abort = null;
    [this.send.disabled, this.stop.hidden] = [false, true];
  }
}

// Enter sends, Shift and Enter begin a line. Enter that ends the composition of a character does neither.
function sendOnEnter(area) {
  area.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    area.form.requestSubmit();
  });
}

const rows = new Map();
const ours = new Map(); // the engine's number of a request, which is in the id of its answer → the chat that asked

function bar(done, all) {
  const cell = document.createElement("td"), progress = document.createElement("progress"), text = document.createElement("span");
  cell.append(progress, " ", text);
  return { cell, show(now, most) { [progress.max, progress.value] = [most, now]; text.textContent = `${now}/${most}`; } };
}

function rowOf(id) {
  if (rows.has(id)) return rows.get(id);
  const element = document.createElement("tr"), cell = () => element.appendChild(document.createElement("td"));
  const row = { element, name: cell(), state: cell(), prompt: bar(), answer: bar() };
  element.append(row.prompt.cell, row.answer.cell);
  rows.set(id, row);
  byId("rows").append(element);
  return row;
}

let last = null, speed = 0;

// `live` is the engine's snapshot: see EngineSnapshot.
function showBatch(live) {
  const now = performance.now(), tokens = live.generation_tokens;
  if (last && tokens >= last.tokens && now > last.time) {
    const current = (tokens - last.tokens) / (now - last.time) * 1000;
    speed = live.requests.length || current ? 0.6 * speed + 0.4 * current : 0;
  }
  last = { tokens, time: now };
  byId("running").textContent = live.num_requests_running;
  byId("waiting").textContent = live.num_requests_waiting;
  byId("speed").textContent = speed.toFixed(1);
  byId("memory-name").textContent = `${live.kv_unit} in use`;
  [byId("memory").max, byId("memory").value] = [live.kv_total || 1, live.kv_used];
  byId("memory-text").textContent = `${live.kv_used} of ${live.kv_total}`;
  const seen = new Set(live.requests.map((request) => request.request_id));
  for (const [id, row] of rows) if (!seen.has(id)) { row.element.remove(); rows.delete(id); }
  for (const request of live.requests) {
    const row = rowOf(request.request_id);
    row.name.textContent = ours.get(request.request_id) ?? `another, ${request.request_id}`;
    row.state.textContent = request.state;
    row.prompt.show(Math.min(request.computed_tokens, request.prompt_tokens), request.prompt_tokens);
    row.answer.show(request.generated_tokens, request.max_tokens);
  }
  say(live.reason ?? "ready", Boolean(live.reason));
}

function say(text, bad = false) {
  if (byId("status").textContent !== text) byId("status").textContent = text;
  byId("status").classList.toggle("bad", bad);
}

async function learnModel() {
  const response = await fetch("v1/models", { headers: headers() });
  byId("key-field").hidden = response.ok;
  if (!response.ok) return say(await problem(response), true);
  model = (await response.json()).data[0].id;
  byId("model").textContent = model;
}

byId("key").addEventListener("change", () => learnModel().catch((error) => say(error.message, true)));
byId("add").addEventListener("click", () => new Chat().text.focus());
byId("all").addEventListener("submit", (event) => {
  event.preventDefault();
  const taken = [...chats].map((chat) => chat.ask(byId("all-text").value));
  if (taken.some(Boolean)) byId("all-text").value = "";
});
sendOnEnter(byId("all-text"));
new Chat();
new Chat();
learnModel().catch((error) => say(error.message, true));
const source = new EventSource("live");
source.addEventListener("message", (event) => showBatch(JSON.parse(event.data)));
source.addEventListener("error", () => say("no connection to the server", true));
