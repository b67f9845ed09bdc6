"use strict";
// Tables with the class "sortable": a button in each heading sorts by it. Without script they stay in their first order.
for (const table of document.querySelectorAll("table.sortable")) {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const descending = heading.getAttribute("aria-sort") === "ascending";
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
      sortRows(table.tBodies[0], column, descending ? -1 : 1);
    });
  });
}
function sortRows(body, column, sign) {
  const rows = [...body.rows].map((row) => {
    const cell = row.cells[column];
    const text = cell.dataset.sort === undefined ? cell.textContent.trim() : cell.dataset.sort;
    const number = text === "" || text === "–" ? NaN : Number(text);
    return { row, text, number, missing: text === "" || text === "–" };
  });
  const numeric = rows.every((each) => each.missing || !Number.isNaN(each.number));
  rows.sort((a, b) => {
    if (a.missing || b.missing) return a.missing - b.missing; // last, either way
    const order = numeric ? a.number - b.number : a.text.localeCompare(b.text, "en", { numeric: true });
    return sign * order;
  });
  body.append(...rows.map((each) => each.row));
}
// On paper nothing can be opened, so what belongs there is.
let opened = [];
window.addEventListener("beforeprint", () => {
  opened = [...document.querySelectorAll("details.print:not([open])")];
  opened.forEach((each) => { each.open = true; });
});
window.addEventListener("afterprint", () => opened.forEach((each) => { each.open = false; }));
