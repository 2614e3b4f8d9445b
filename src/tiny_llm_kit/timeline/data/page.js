"use strict";
window.addEventListener("error", (event) => { document.documentElement.dataset.error = event.message; });

const all = (selector, root = document) => [...root.querySelectorAll(selector)];
const make = (name, attributes) => {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
};

// Each request's life is in its <title>. The card takes its place, and the title becomes the name that is read out.
for (const slice of all(".marks .slice, .marks .wait")) {
  const title = slice.querySelector("title");
  slice.setAttribute("aria-label", title.textContent.split("\n").join(", "));
  slice.dataset.life = title.textContent;
  title.remove();
}

// The card, and what is marked along with it: all stays of the request, and its way from its arrival to its first lane.
const card = document.getElementById("card");
let chosen = null;

function choose(slice, x, y) {
  if (slice !== chosen) {
    forget();
    chosen = slice;
    const chart = slice.closest(".marks");
    const same = all(`[data-request="${slice.dataset.request}"]`, chart);
    for (const each of same) each.classList.add("chosen");
    const first = same.find((each) => each.classList.contains("slice"));
    if (first) {
      const middle = Number(first.getAttribute("y")) + Number(first.getAttribute("height")) / 2;
      chart.append(make("line", { class: "waited", x1: first.dataset.arrived + "%", x2: first.getAttribute("x"), y1: middle, y2: middle }));
    }
    const [name, ...lines] = slice.dataset.life.split("\n");
    card.querySelector("h3").textContent = name;
    card.querySelector("dl").replaceChildren(...lines.flatMap((line) => {
      const [key, ...value] = line.split(": ");
      const term = document.createElement("dt"), text = document.createElement("dd");
      term.textContent = key;
      text.textContent = value.join(": ");
      return [term, text];
    }));
    card.hidden = false;
  }
  const left = Math.min(x + 16, innerWidth - card.offsetWidth - 12);
  const below = y + 20 + card.offsetHeight < innerHeight;
  card.style.left = `${Math.max(12, left)}px`;
  card.style.top = `${Math.max(12, below ? y + 20 : y - 14 - card.offsetHeight)}px`;
}

function forget() {
  for (const each of all(".chosen")) each.classList.remove("chosen");
  for (const each of all(".waited")) each.remove();
  card.hidden = true;
  chosen = null;
}

// A line at the same time in all runs, and what their counters say then.
const counters = all(".counter").map((counter) => {
  const moves = [...counter.querySelector(".line").getAttribute("d").matchAll(/H([\d.]+)V([\d.]+)/g)];
  const label = all(".small", counter.closest(".chart").querySelector(".labels"))[Number(counter.dataset.place)];
  const height = Number(counter.getAttribute("height")), full = Number(counter.dataset.full);
  const value = (y) => Math.round((height - y) / (height - 3) * full).toLocaleString("en");
  return { moves, label, value, text: label.textContent };
});
const cursors = all(".marks").map((marks) => marks.appendChild(make("line", { class: "cursor", y1: 0, y2: marks.getAttribute("height"), visibility: "hidden" })));

function readAt(share) {
  for (const cursor of cursors) {
    cursor.setAttribute("x1", `${100 * share}%`);
    cursor.setAttribute("x2", `${100 * share}%`);
    cursor.setAttribute("visibility", "visible");
  }
  for (const { moves, label, value } of counters) {
    let low = 0, high = moves.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (Number(moves[middle][1]) <= 1000 * share) low = middle + 1; else high = middle;
    }
    label.textContent = low ? value(Number(moves[low - 1][2])) + " here" : "0 here";
  }
}

function leave() {
  for (const cursor of cursors) cursor.setAttribute("visibility", "hidden");
  for (const { label, text } of counters) label.textContent = text;
  if (!document.activeElement || document.activeElement !== chosen) forget();
}

const scrollers = all(".scroll");
for (const scroller of scrollers) {
  const marks = scroller.querySelector(".marks");
  const point = (event) => {
    const box = marks.getBoundingClientRect();
    readAt(Math.min(1, Math.max(0, (event.clientX - box.left) / box.width)));
    const slice = event.target.closest(".slice, .wait");
    if (slice) choose(slice, event.clientX, event.clientY);
    else if (document.activeElement !== chosen) forget();
  };
  scroller.addEventListener("pointermove", point);
  scroller.addEventListener("pointerdown", point);  // a finger does not hover
  scroller.addEventListener("pointerleave", leave);
  scroller.addEventListener("scroll", () => {
    for (const other of scrollers) if (other !== scroller && other.scrollLeft !== scroller.scrollLeft) other.scrollLeft = scroller.scrollLeft;
  });

  // One tab stop per run; arrow keys go from request to request.
  const slices = all(".slice, .wait.never", scroller);
  for (const slice of slices) slice.setAttribute("tabindex", "-1");
  slices[0]?.setAttribute("tabindex", "0");
  scroller.addEventListener("focusin", (event) => {
    const slice = event.target.closest(".slice, .wait");
    if (!slice) return;
    const box = slice.getBoundingClientRect();
    choose(slice, Math.max(box.left, 0), box.bottom - 12);
  });
  scroller.addEventListener("focusout", forget);
  scroller.addEventListener("keydown", (event) => {
    const at = slices.indexOf(document.activeElement);
    const to = { ArrowRight: at + 1, ArrowDown: at + 1, ArrowLeft: at - 1, ArrowUp: at - 1, Home: 0, End: slices.length - 1 }[event.key];
    if (event.key === "Escape") forget();
    if (at < 0 || to === undefined || !slices[to]) return;
    event.preventDefault();
    slices[at].setAttribute("tabindex", "-1");
    slices[to].setAttribute("tabindex", "0");
    slices[to].focus();
  });
}

// Zoom: the drawings are in per cent of their width, so only that changes; the number of ticks follows.
let zoom = 1;
const axes = all(".marks").map((marks) => ({ marks, ticks: all(".tick", marks), until: Number(marks.dataset.until), parts: Number(marks.dataset.parts) }));

// What needs more pixels than it has stays hidden.
const cramped = all(".marks [data-room]").map((mark) => {
  const share = Number.parseFloat(mark.closest(".slice, .wait").getAttribute("width")) / 100;
  return { mark, need: Number(mark.dataset.room) / share };
});

function showWhatFits() {
  const width = axes[0] ? axes[0].marks.getBoundingClientRect().width : 0;
  for (const { mark, need } of cramped) mark.setAttribute("visibility", need <= width ? "inherit" : "hidden");
  for (const { marks } of axes) marks.classList.toggle("near", Number(marks.dataset.near) <= width);
}

function niceStep(length, parts) {
  const power = 10 ** Math.floor(Math.log10(length / parts));
  return [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= length / parts * (1 - 1e-9));
}

function drawTicks() {
  for (const axis of axes) {
    const model = axis.ticks[0], step = niceStep(axis.until, axis.parts * zoom), box = [];
    for (let i = 0; i * step <= axis.until * (1 + 1e-9); i++) {
      const tick = model.cloneNode(true), share = `${100 * i * step / axis.until}%`;
      for (const line of all("line", tick)) { line.setAttribute("x1", share); line.setAttribute("x2", share); }
      const text = tick.querySelector("text");
      text.setAttribute("x", share);
      text.setAttribute("text-anchor", i === 0 ? "start" : i * step > axis.until * (1 - 0.03 / zoom) ? "end" : "middle");
      text.textContent = String(Number((i * step).toPrecision(6)));
      box.push(tick);
    }
    model.before(...box);
    for (const tick of axis.ticks) tick.remove();
    axis.ticks = box;
  }
}

function zoomTo(wanted, at = 0.5) {
  const before = zoom, left = scrollers[0].scrollLeft, width = scrollers[0].clientWidth;
  zoom = Math.min(64, Math.max(1, wanted));
  document.documentElement.style.setProperty("--zoom", zoom);
  drawTicks();
  showWhatFits();
  for (const scroller of scrollers) scroller.scrollLeft = (left + at * width) * zoom / before - at * width;
}

for (const button of all(".zoom button")) {
  button.addEventListener("click", () => zoomTo(button.dataset.by ? zoom * Number(button.dataset.by) : 1));
}
for (const scroller of scrollers) {
  scroller.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    const box = scroller.getBoundingClientRect();
    zoomTo(zoom * (event.deltaY < 0 ? 1.25 : 0.8), (event.clientX - box.left) / box.width);
  }, { passive: false });
}

addEventListener("resize", showWhatFits);
document.documentElement.classList.add("script");
showWhatFits();
document.documentElement.dataset.ready = String(all(".marks .slice").length);
