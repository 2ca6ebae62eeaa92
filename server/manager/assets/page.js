// What makes the pages more comfortable. All of them work without it.
"use strict";

// Times as the browser's clock shows them.
const clock = new Intl.DateTimeFormat(document.documentElement.lang, {
  dateStyle: "medium", timeStyle: "short", hour12: false,
});
for (const time of document.querySelectorAll("time[datetime]")) {
  const at = new Date(time.dateTime);
  if (!Number.isNaN(at.getTime())) {
    time.title = time.textContent;
    time.textContent = clock.format(at);
  }
}

// Buttons that copy, where the browser lets them.
if (navigator.clipboard) {
  for (const button of document.querySelectorAll("button[data-copy]")) {
    button.hidden = false;
    const label = button.textContent;
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(button.dataset.copy);
      button.textContent = button.dataset.copied;
      setTimeout(() => { button.textContent = label; }, 1500);
    });
  }
}

// What is dangerous cannot be sent before the name is typed. The server looks at it in any case.
for (const input of document.querySelectorAll("input[data-must-be]")) {
  const buttons = input.form.querySelectorAll("button");
  const check = () => {
    for (const button of buttons) button.disabled = input.value.trim() !== input.dataset.mustBe;
  };
  input.addEventListener("input", check);
  check();
}

// A form is sent once.
for (const form of document.querySelectorAll("form[method=post]:not(.look)")) {
  form.addEventListener("submit", () => {
    setTimeout(() => { for (const button of form.querySelectorAll("button")) button.disabled = true; });
  });
}
// Coming back to a page, its buttons work again.
addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });

// "/" goes to the search field.
addEventListener("keydown", (event) => {
  const field = document.querySelector("[data-search]");
  const typing = event.target.closest("input, textarea, select");
  if (event.key === "/" && field && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault();
    field.focus();
    field.select();
  }
});
