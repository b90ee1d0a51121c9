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
window.addEventListener("load", () => {
  reachByKeyboard();
  window.addEventListener("resize", reachByKeyboard);
  if (window.MathJax && MathJax.startup && MathJax.startup.promise) MathJax.startup.promise.then(reachByKeyboard);
});
