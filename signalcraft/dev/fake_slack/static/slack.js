// Keeps the messages as they are: asks for the page every second, and puts in what has changed.
const INTERVAL_MS = 1000;
let last = null;

function isBusy() {
  return document.hidden || document.activeElement?.matches("select");
}

async function refresh() {
  const shown = document.querySelector("[data-live]");
  if (!shown || isBusy()) return;
  const response = await fetch(location.href).catch(() => null);
  if (!response?.ok) return;
  const html = await response.text();
  if (html === last || isBusy()) return;
  const page = new DOMParser().parseFromString(html, "text/html");
  for (const thread of shown.querySelectorAll("details[open]")) {
    page.getElementById(thread.id)?.setAttribute("open", "");
  }
  shown.replaceWith(page.querySelector("[data-live]"));
  document.querySelector("nav").replaceWith(page.querySelector("nav"));
  last = html;
}

document.addEventListener("change", (event) => {
  if (event.target.matches("select[name=option]") && event.target.value) event.target.form.submit();
});
setInterval(refresh, INTERVAL_MS);
