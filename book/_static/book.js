// Search results show excerpts by fetching pages, which browsers forbid for pages opened by a double click.
if (location.protocol === "file:" && typeof DOCUMENTATION_OPTIONS !== "undefined") {
  DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
}

// Wide tables, formulas, code and, on a phone, figures scroll inside their own box; let the keyboard reach those boxes, however wide the window is now.
function reachByKeyboard() {
  for (const box of document.querySelectorAll(".cell_output > .output, .pst-scrollable-table-container, figure, .home-figure, div.math, pre")) {
    if (box.scrollWidth > box.clientWidth + 1) box.tabIndex = 0;
  }
}

// A table that is wider than its box is set tighter. If that is not enough: on a phone a card per row, elsewhere a line
// that says that there is more. A long one stays a table on a phone, too: its cards would be hundreds of screens.
const FEW_ROWS = 12;
function fitTables(part = document) {
  const phone = window.innerWidth <= 600;
  for (const table of part.querySelectorAll(".pst-scrollable-table-container > table:not(.parameters)")) {
    const box = table.parentElement;
    stack(table, false);
    const overflows = () => box.scrollWidth > box.clientWidth + 1;
    table.classList.remove("tight");
    table.classList.toggle("tight", overflows());
    const wide = overflows();
    const cards = wide && phone && table.tBodies[0].rows.length <= FEW_ROWS;
    if (cards) stack(table, true);
    sayMore(box, wide && !cards);
  }
}
// As cards or as a table; a screen reader is told the same of both.
function stack(table, on) {
  if (table.classList.toggle("stacked", on) !== on || !on) return;
  const names = Array.from(table.querySelectorAll("thead th"), cell => cell.textContent.trim());
  table.setAttribute("role", "table");
  for (const part of table.querySelectorAll("thead, tbody")) part.setAttribute("role", "rowgroup");
  for (const cell of table.querySelectorAll("thead th")) cell.setAttribute("role", "columnheader");
  for (const row of table.querySelectorAll("tr")) row.setAttribute("role", "row");
  for (const row of table.querySelectorAll("tbody tr")) {
    Array.from(row.cells).forEach((cell, i) => {
      cell.setAttribute("role", cell.tagName === "TH" ? "rowheader" : "cell");
      if (i && names[i]) cell.dataset.column = names[i]; // the first one is the card's heading
    });
  }
}
// A line above a box that hides columns, until they have been scrolled to.
function sayMore(box, hidden) {
  let line = box.previousElementSibling;
  if (!line || !line.classList.contains("more-columns")) {
    if (!hidden) return;
    line = Object.assign(document.createElement("p"), { className: "more-columns", textContent: "more columns →" });
    box.before(line);
    box.addEventListener("scroll", () => { line.hidden = box.scrollLeft + box.clientWidth >= box.scrollWidth - 1; });
  }
  line.hidden = !hidden;
}

// A link to a place that lies folded opens all around it, and the place itself.
function unfold() {
  const place = document.getElementById(location.hash.slice(1));
  const closed = [];
  for (let box = place && place.closest("details"); box; box = box.parentElement.closest("details")) {
    if (!box.open) closed.push(box);
  }
  for (const box of closed) box.open = true;
  if (closed.length) place.scrollIntoView();
}

window.addEventListener("load", () => {
  fitTables();
  reachByKeyboard();
  unfold();
  window.addEventListener("hashchange", unfold);
  // pressed a second time, a link changes no address
  document.addEventListener("click", event => { if (event.target.closest("a[href*='#']")) setTimeout(unfold); });
  // what is folded has no width: its tables are fitted when it opens
  document.addEventListener("toggle", event => { if (event.target.open) { fitTables(event.target); reachByKeyboard(); } }, true);
  window.addEventListener("resize", () => fitTables());
  window.addEventListener("resize", reachByKeyboard);
  if (window.MathJax && MathJax.startup && MathJax.startup.promise) MathJax.startup.promise.then(reachByKeyboard);
});
