"use strict";
// Draws the figures, follows light and dark, and sorts the table of trials.
(() => {
  const root = document.documentElement;
  const themes = JSON.parse(document.getElementById("themes").textContent);
  const prefersDark = window.matchMedia("(prefers-color-scheme: dark)");
  const printing = window.matchMedia("print");
  const isTouch = window.matchMedia("(pointer: coarse)").matches;
  const config = {
    responsive: true, displaylogo: false, displayModeBar: isTouch ? false : "hover",
    modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d", "sendChartToCloud"], // the last would upload it
  };
  const drawn = [];

  function theme(isPaper) {
    const chosen = root.dataset.theme || (prefersDark.matches ? "dark" : "light");
    return themes[isPaper ? "light" : chosen];
  }

  function draw(holder) {
    const plot = holder.querySelector(".plot");
    const figure = JSON.parse(holder.querySelector("script").textContent);
    // On a touch screen a finger on a chart scrolls the page.
    const layout = { ...figure.layout, template: theme(printing.matches), dragmode: isTouch ? false : "zoom" };
    Plotly.newPlot(plot, figure.data, layout, config);
    drawn.push(plot);
  }

  function follow(isPaper) {
    for (const plot of drawn) Plotly.relayout(plot, { template: theme(isPaper) });
  }

  function fit(isPaper) {
    follow(isPaper);
    for (const plot of drawn) {
      const width = isPaper ? Math.min(plot.clientWidth, 680) : undefined;
      Plotly.relayout(plot, { width, autosize: !isPaper });
    }
  }

  function sort(table, head) {
    const index = [...head.parentNode.children].indexOf(head);
    const isDown = head.getAttribute("aria-sort") === "ascending";
    for (const other of head.parentNode.children) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", isDown ? "descending" : "ascending");
    const keyed = [...table.tBodies[0].rows].map((row) => {
      const cell = row.cells[index];
      const key = cell.dataset.key ?? cell.textContent;
      const number = Number(key);
      return { row, key, number, kind: key === "" ? 2 : Number.isNaN(number) ? 1 : 0 };
    });
    keyed.sort((a, b) => {
      if (a.kind !== b.kind) return a.kind - b.kind; // what is missing stays at the end, either way
      const order = a.kind === 0 ? a.number - b.number : a.key < b.key ? -1 : a.key > b.key ? 1 : 0;
      return isDown ? -order : order;
    });
    table.tBodies[0].append(...keyed.map((item) => item.row));
  }

  for (const table of document.querySelectorAll("table.sortable"))
    for (const head of table.tHead.rows[0].cells)
      head.querySelector("button").addEventListener("click", () => sort(table, head));

  for (const input of document.querySelectorAll(".theme input"))
    input.addEventListener("change", () => {
      if (input.value) root.dataset.theme = input.value;
      else delete root.dataset.theme;
      follow(false);
    });
  prefersDark.addEventListener("change", () => follow(false));
  window.addEventListener("beforeprint", () => fit(true));
  window.addEventListener("afterprint", () => fit(false));

  // One figure after the other, so that the page can be read and scrolled meanwhile.
  const waiting = [...document.querySelectorAll("figure.chart")];
  (function next() {
    const holder = waiting.shift();
    if (!holder) {
      root.dataset.drawn = "all";
      return;
    }
    draw(holder);
    window.setTimeout(next, 0);
  })();
})();
