// SPDX-License-Identifier: Apache-2.0
// Grids of weights: as numbers on colours, and as small squares.

const NAMESPACE = "http://www.w3.org/2000/svg";
// More columns leave no room for numbers.
const MOST_NUMBERED = 9;

/**
 * Weights as a grid of percentages.
 *
 * @param {{value: number, share: number, outside: boolean}[]} cells row by row; the share is of the strongest colour
 * @param {number} columns
 * @param {string} name of the grid, for screen readers
 */
export function grid(cells, columns, name) {
  const node = document.createElement("div");
  node.className = columns > MOST_NUMBERED ? "grid unnumbered" : "grid";
  node.style.setProperty("--columns", columns);
  node.setAttribute("role", "img");
  const words = cells.map(({ value }) => (100 * value).toFixed(0));
  const heard = cells.map(({ outside }, number) => `${words[number]}${outside ? " outside" : ""}`);
  const rows = Array.from({ length: cells.length / columns }, (_, row) =>
    heard.slice(row * columns, (row + 1) * columns).join(", "),
  );
  node.setAttribute("aria-label", `${name}, row by row: ${rows.join("; ")}`);
  node.append(
    ...cells.map(({ value, share, outside }, number) => {
      const cell = document.createElement("span");
      cell.textContent = words[number];
      cell.dataset.value = String(value);
      cell.classList.toggle("outside", outside);
      cell.style.setProperty("--share", `${100 * share}%`);
      return cell;
    }),
  );
  return node;
}

/** The same without numbers, as small as a letter: shares from 0 to 1. */
export function squares(shares, columns) {
  const rows = shares.length / columns;
  const drawing = svg("svg", { viewBox: `0 0 ${columns} ${rows}`, "aria-hidden": "true" });
  drawing.append(
    ...shares.map((share, number) =>
      svg("rect", {
        class: "heat",
        x: number % columns,
        y: Math.floor(number / columns),
        width: 1,
        height: 1,
        "fill-opacity": share.toFixed(3),
      }),
    ),
  );
  return drawing;
}

/** An element of a drawing. */
export function svg(tag, attributes) {
  const node = document.createElementNS(NAMESPACE, tag);
  Object.entries(attributes).forEach(([name, value]) => node.setAttribute(name, value));
  return node;
}
