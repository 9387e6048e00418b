"use strict";
// Without this script everything is there to be read; with it, rows are found faster.

const root = document.documentElement;
const theme = document.getElementById("theme");
const dark = matchMedia("(prefers-color-scheme: dark)");

function isDark() {
  return root.dataset.theme ? root.dataset.theme === "dark" : dark.matches;
}

function label() {
  theme.textContent = isDark() ? "Light theme" : "Dark theme";
}

theme.addEventListener("click", () => {
  root.dataset.theme = isDark() ? "light" : "dark";
  label();
});
dark.addEventListener("change", label);
theme.hidden = false;
label();

const forms = [...document.querySelectorAll("form.filters")];

for (const form of forms) {
  const rows = [...document.querySelectorAll(`#${form.dataset.rows} tr[data-status]`)];
  const words = new Map(rows.map((row) => [row, row.textContent.toLowerCase()]));
  const { search, status, level, shown } = form.elements;

  function apply() {
    const wanted = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const row of rows) {
      const seen = wanted.every((word) => words.get(row).includes(word))
        && (!status.value || row.dataset.status === status.value
          || (status.value === "open" && !["pass", "skip", "disabled"].includes(row.dataset.status)))
        && (!level.value || row.dataset.level === level.value);
      row.classList.toggle("filtered", !seen);
      count += seen;
    }
    for (const area of document.querySelectorAll(`#${form.dataset.rows} tbody.area`)) {
      area.classList.toggle("filtered", !area.querySelector("tr[data-status]:not(.filtered)"));
    }
    shown.value = count === rows.length ? `${count} requirements` : `${count} of ${rows.length} requirements`;
  }

  form.addEventListener("input", apply);
  form.addEventListener("reset", () => queueMicrotask(apply));
  form.addEventListener("submit", (event) => event.preventDefault());
  search.addEventListener("keydown", (event) => {
    if (event.key === "Escape") form.reset();
  });
  form.hidden = false;
  apply();
}

document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, select, textarea");
  if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey || !forms.length) return;
  event.preventDefault();
  forms[0].elements.search.focus();
});

const closed = [];
addEventListener("beforeprint", () => {
  for (const part of document.querySelectorAll("details:not([open])")) {
    part.open = true;
    closed.push(part);
  }
});
addEventListener("afterprint", () => {
  for (const part of closed.splice(0)) part.open = false;
});
