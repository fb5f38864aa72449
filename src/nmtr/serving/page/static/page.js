"use strict";
// What htmx leaves to do: the token, what went wrong, where the focus goes, addresses with a user.

const KEY = "nmtr-token";
const find = (selector) => document.querySelector(selector);

function say(place, words) {
  const target = place?.dataset?.problem === undefined ? find("#problem") : place;
  target.textContent = words; // never as HTML
}

function problem(request) {
  try {
    const { title, detail } = JSON.parse(request.responseText);
    return `${title}: ${detail}.`;
  } catch {
    return `The service answered ${request.status} without a reason.`;
  }
}

function askForToken(asking) {
  const form = find("#token");
  if (!form) return;
  form.hidden = !asking;
  find("#forget").hidden = asking;
  if (asking) form.elements.token.focus();
}

document.addEventListener("htmx:configRequest", ({ detail }) => {
  const token = sessionStorage.getItem(KEY);
  if (token) detail.headers.Authorization = `Bearer ${token}`;
});

document.addEventListener("htmx:beforeRequest", ({ detail }) => {
  if (detail.target.id !== "result") return;
  say(null, "");
  detail.target.setAttribute("aria-busy", "true");
});

document.addEventListener("htmx:afterRequest", ({ detail }) => {
  detail.target.removeAttribute("aria-busy");
});

document.addEventListener("htmx:responseError", ({ detail }) => {
  const { xhr, target } = detail;
  if (xhr.status === 401) {
    const tried = sessionStorage.getItem(KEY);
    sessionStorage.removeItem(KEY);
    askForToken(true);
    say(null, tried ? "The service does not know this token." : "");
    return;
  }
  if (target.id === "result") target.replaceChildren();
  say(target, problem(xhr));
});

for (const name of ["htmx:sendError", "htmx:timeout"]) {
  document.addEventListener(name, ({ detail }) => {
    say(detail.target, "The service cannot be reached. Is it running?");
  });
}

// What had the focus is gone: it goes to the head of what came instead of it.
document.addEventListener("htmx:afterSettle", ({ detail }) => {
  if (detail.target.id === "result" && document.activeElement === document.body) {
    if (detail.requestConfig.triggeringEvent?.type === "submit") {
      detail.target.querySelector("[data-focus]")?.focus();
    }
  }
});

// A picture that cannot be had leaves its place empty, and no broken image.
document.addEventListener("error", ({ target }) => {
  if (target instanceof HTMLImageElement) target.classList.add("gone");
}, true);

// The user stands behind the #, which no server and no proxy is told.
function showAddressed() {
  const form = find("form[data-deep]");
  const given = new URLSearchParams(location.hash.slice(1)).get("user");
  if (!form || !given || form.dataset.shown === given) return;
  form.elements.user.value = given;
  form.requestSubmit();
}

document.addEventListener("submit", ({ target }) => {
  if (target.dataset.deep === undefined) return;
  const user = target.elements.user.value;
  target.dataset.shown = user;
  location.hash = new URLSearchParams({ user }).toString();
});

document.addEventListener("click", ({ target }) => {
  const chosen = target.closest("[data-user]");
  if (!chosen) return;
  chosen.form.elements.user.value = chosen.dataset.user;
  chosen.form.requestSubmit();
});

window.addEventListener("hashchange", showAddressed);
document.addEventListener("htmx:afterSettle", ({ detail }) => {
  if (detail.elt.querySelector?.("form[data-deep]")) showAddressed();
});

document.addEventListener("DOMContentLoaded", () => {
  const form = find("#token");
  if (!form) return;
  askForToken(!sessionStorage.getItem(KEY));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    sessionStorage.setItem(KEY, form.elements.token.value.trim());
    location.reload();
  });
  find("#forget").addEventListener("click", () => {
    sessionStorage.removeItem(KEY);
    location.reload();
  });
});
