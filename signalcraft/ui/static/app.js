// What the pages do more with a script: keys, ticking all, times that go on, and what is new without a reload.

const every = (selector, root = document) => [...root.querySelectorAll(selector)];
const one = (selector, root = document) => root.querySelector(selector);

/* Times */

const UNITS = [[60, 1, "s"], [3600, 60, "m"], [172800, 3600, "h"], [5184000, 86400, "d"], [Infinity, 604800, "w"]];

function ago(seconds) {
  const [, unit, letter] = UNITS.find(([below]) => Math.abs(seconds) < below);
  const length = `${Math.floor(Math.abs(seconds) / unit)}${letter}`;
  return seconds < -1 ? `in ${length}` : seconds < 5 ? "now" : `${length} ago`;
}

function showTimes() {
  for (const time of every("time")) {
    const moment = new Date(time.dateTime);
    const text = ago((Date.now() - moment) / 1000);
    if (time.textContent !== text) time.textContent = text;
    time.title = `${moment.toLocaleString([], { dateStyle: "medium", timeStyle: "medium" })} (${moment.toISOString().slice(0, 19)}Z)`;
  }
}

/* Ticking */

const bulk = one("[data-bulk]");
const ticks = () => every("input[name=ids]", bulk ?? document);

function showTicked() {
  if (!bulk) return;
  const ticked = ticks().filter((tick) => tick.checked).length;
  const all = one("[data-all]", bulk);
  if (all) {
    all.checked = ticked > 0 && ticked === ticks().length;
    all.indeterminate = ticked > 0 && !all.checked;
  }
  for (const button of every(".bulk button", bulk)) button.disabled = ticked === 0;
  const output = one("[data-ticked]", bulk);
  if (output) output.value = ticked ? `${ticked} ticked` : "";
}

function prepareForms() {
  for (const field of every("[data-offset]")) field.value = -new Date().getTimezoneOffset();
  for (const part of every("[data-script]")) part.style.visibility = "visible";
}

document.addEventListener("change", (event) => {
  if (event.target.matches("[data-all]")) for (const tick of ticks()) tick.checked = event.target.checked;
  if (event.target.matches("[data-all], input[name=ids]")) showTicked();
});

/* What is new: the page is fetched again with its tag, and parts that differ are replaced where they stand, unless somebody has written into them. */

const QUICK = 5000, SLOW = 60000, ATTENTIVE = 60000;
let movedAt = Date.now(), asked = Date.now(), isAsking = false, tag = document.body.dataset.tag;

async function refresh() {
  const response = await fetch(location.href, { headers: { "If-None-Match": `W/"${tag}"` }, redirect: "manual", cache: "no-store" });
  if (response.status !== 200) {
    if (response.type === "opaqueredirect") announce("Your session has ended: sign in", "/login");
    return;
  }
  const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
  tag = fresh.body.dataset.tag;
  for (const part of every("[data-live]")) {
    const now = one(`[data-live="${part.dataset.live}"]`, fresh);
    if (now && now.innerHTML !== part.innerHTML && !part.contains(document.activeElement) && !one("details[open], [data-edited]", part)) part.replaceWith(now);
  }
  const ids = new Set(every("tr[data-id]", fresh).map((row) => row.dataset.id));
  const shown = every("tr[data-id]");
  for (const row of shown) row.classList.toggle("gone", !ids.has(row.dataset.id));
  const known = new Set(shown.map((row) => row.dataset.id));
  const added = [...ids].filter((id) => !known.has(id)).length;
  if (added) announce(`${added} new ${added === 1 ? "group" : "groups"}, show`, location.href);
  prepareForms();
  showTimes();
}

function announce(text, href) {
  const bar = one("[data-new-groups]");
  if (!bar || bar.textContent === text) return;
  const link = document.createElement("a");
  link.href = href;
  link.textContent = text;
  bar.replaceChildren(link);
}

document.addEventListener("input", ({ target }) => { if (target.matches("[data-live] :is(input, select)")) target.dataset.edited = ""; });

async function look() {
  const pause = Date.now() - movedAt < ATTENTIVE ? QUICK : SLOW;
  if (!tag || isAsking || document.hidden || Date.now() - asked < pause) return;
  isAsking = true;
  try { await refresh(); } catch { /* away for a moment: the next look asks again */ } finally { isAsking = false; asked = Date.now(); }
}

for (const name of ["pointermove", "keydown", "scroll", "focus"]) addEventListener(name, () => { movedAt = Date.now(); }, { passive: true });

/* Keys */

const help = one("#help"), keysOn = one("#keys-on");
const KEYS_OFF = "signalcraft.keys-off";
let goes = 0;

const titles = () => every(".list .title");
const here = () => titles().indexOf(document.activeElement?.closest("tr")?.querySelector(".title"));

function move(by) {
  const found = titles();
  const next = found[Math.max(0, Math.min(found.length - 1, here() + by))];
  next?.focus();
  next?.scrollIntoView({ block: "nearest" });
}

function act(button) {
  if (!button) return;
  if (bulk && !ticks().some((tick) => tick.checked)) {
    const tick = document.activeElement?.closest("tr")?.querySelector("input[name=ids]");
    if (!tick) return;
    tick.checked = true;
    showTicked();
  }
  if (button.matches("select")) button.focus();
  else button.form.requestSubmit(button);
}

const KEYS = {
  j: () => move(1),
  k: () => move(here() < 0 ? 1 : -1),
  o: () => document.activeElement?.closest("tr")?.querySelector(".title")?.click(),
  x: () => document.activeElement?.closest("tr")?.querySelector("input[name=ids]")?.click(),
  a: () => act(one("[data-key=a]")),
  r: () => act(one("[data-key=r]")),
  s: () => act(one("select[name=until]")),
  "/": () => one("[data-search]")?.select(),
  "?": () => help?.showModal(),
};

function isTyping(target) {
  return target.closest("input:not([type=checkbox]), textarea, select, dialog, [contenteditable]") !== null;
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target) || localStorage.getItem(KEYS_OFF)) return;
  if (event.key === "g") { goes = Date.now(); return; }
  const opens = event.key === "o" && Date.now() - goes < 1500;
  goes = 0;
  const action = opens ? () => location.assign("/alerts") : KEYS[event.key];
  if (!action) return;
  event.preventDefault();
  action();
});

for (const button of every("[data-help]")) {
  button.addEventListener("click", () => help.showModal());
}
if (keysOn) {
  keysOn.checked = !localStorage.getItem(KEYS_OFF);
  keysOn.addEventListener("change", () => keysOn.checked ? localStorage.removeItem(KEYS_OFF) : localStorage.setItem(KEYS_OFF, "1"));
}

/* Panels close when something else is pressed */

document.addEventListener("click", (event) => {
  for (const open of every("details[open]:not(.raw, .muted)")) if (!open.contains(event.target)) open.open = false;
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const open of every("details[open]:not(.raw, .muted)")) { open.open = false; one("summary", open).focus(); }
});

prepareForms();
showTicked();
showTimes();
setInterval(showTimes, 10000);
setInterval(look, 1000);
if (location.search.includes("done=")) {
  const url = new URL(location.href);
  url.searchParams.delete("done");
  history.replaceState(null, "", url);
}
