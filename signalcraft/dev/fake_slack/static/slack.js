// Keeps the page as the channel is: asks for it every second, and puts in what has changed.
const INTERVAL_MS = 1000;

function isBusy() {
  return document.hidden || document.activeElement?.matches("select");
}

async function refresh() {
  if (!document.querySelector("[data-live]") || isBusy()) return;
  const response = await fetch(location.href).catch(() => null);
  if (!response?.ok) return;
  const page = new DOMParser().parseFromString(await response.text(), "text/html");
  if (isBusy()) return;
  for (const thread of document.querySelectorAll("details[open]")) {
    page.getElementById(thread.id)?.setAttribute("open", "");
  }
  for (const part of ["nav", "[data-live]"]) {
    const [shown, fresh] = [document, page].map((each) => each.querySelector(part));
    if (shown.innerHTML !== fresh.innerHTML) shown.replaceChildren(...fresh.childNodes);
  }
}

document.addEventListener("change", (event) => {
  if (event.target.matches("select[name=option]") && event.target.value) event.target.form.submit();
});
setInterval(refresh, INTERVAL_MS);
