// What the console's own pages do in the browser: questions before actions, copying a key, following events, an ended
// session.
"use strict";

document.addEventListener("click", (event) => {
  const asks = event.target.closest("[data-asks]");
  if (asks) {
    document.getElementById(asks.dataset.asks).showModal();
  }
  const closes = event.target.closest("[data-closes]");
  if (closes) {
    closes.closest("dialog").close();
  }
  const copies = event.target.closest("[data-copies]");
  if (copies) {
    navigator.clipboard.writeText(document.getElementById(copies.dataset.copies).textContent);
    copies.lastChild.textContent = "Copied";
  }
});

// A choice that fills another field with the text that goes with it.
document.addEventListener("change", (event) => {
  const choice = event.target.closest("[data-fills]");
  if (choice) {
    document.getElementById(choice.dataset.fills).value = JSON.parse(choice.dataset.texts)[choice.value];
  }
});

// A second click while the first is on its way would only be refused.
document.addEventListener("submit", (event) => {
  if (event.target.closest("dialog")) {
    event.submitter?.setAttribute("disabled", "");
  }
});

// A part that renews itself would show the sign-in page in its place once the session has ended.
document.addEventListener("htmx:beforeSwap", (event) => {
  if (new URL(event.detail.xhr.responseURL).pathname.endsWith("/login/")) {
    event.preventDefault();
    window.location.reload();
  }
});

// A part that follows events renews itself at each message of their stream. While nobody looks at the page it follows
// nothing; a stream that ends is taken up again by the browser, which also heeds how long it is told to wait.
(() => {
  const AGAIN_AFTER_MILLISECONDS = 5_000; // an answer that is no stream: the server is away, or the session has ended
  let stream = null;

  const renew = () => {
    const part = document.querySelector("[data-follows]");
    if (part) {
      htmx.trigger(part, "renew");
    }
  };

  function follow() {
    const address = document.hidden ? undefined : document.querySelector("[data-follows]")?.dataset.follows;
    if (address === stream?.address) {
      return;
    }
    stream?.source.close();
    stream = address && { address, source: new EventSource(address) };
    if (stream) {
      stream.source.onmessage = renew;
      stream.source.onerror = givenUp;
    }
  }

  function givenUp() {
    if (stream?.source.readyState === EventSource.CLOSED) {
      stream = null;
      setTimeout(() => {
        renew();
        follow();
      }, AGAIN_AFTER_MILLISECONDS);
    }
  }

  for (const happens of ["DOMContentLoaded", "visibilitychange", "htmx:afterSettle"]) {
    document.addEventListener(happens, follow);
  }
})();
