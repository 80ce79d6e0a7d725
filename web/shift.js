// SPDX-License-Identifier: Apache-2.0
// The learned shift of a layer: where each tap really samples.

import { centresOf, offsetOf } from "./attention.js";
import { svg } from "./grids.js";

// Between the taps' drawings, as a share of a square.
const GAP = 0.6;

const element = (id) => document.getElementById(id);

/** Draw for each tap the weights over the window that it samples with, and say how far they are from fixed. */
export function drawShift(layer) {
  const { kernelSize, dilation, shift } = layer;
  if (shift === null) {
    element("shift-said").textContent = "None: each tap samples its own place of the window.";
    element("shift").replaceChildren();
    return;
  }
  const centres = centresOf(layer);
  const distances = centres.map(({ row, column }, tap) => {
    const [down, across] = offsetOf(tap, kernelSize, dilation);
    return Math.hypot(row - down, column - across);
  });
  const mean = distances.reduce((sum, distance) => sum + distance, 0) / distances.length;
  const words =
    `Each tap samples a mixture of the window, here the mean over the channels: its centre (dot) is ` +
    `${mean.toFixed(2)} positions from its own place (frame) on average, ${Math.max(...distances).toFixed(2)} at most. ` +
    "Orange adds, blue takes away.";
  element("shift-said").textContent = words;
  element("shift").replaceChildren(drawing(layer, centres));
}

function drawing({ kernelSize: [height, width], dilation, shift }, centres) {
  const place = (tap, columns, step) => [(tap % columns) * step, Math.floor(tap / columns)];
  const strongest = Math.max(...shift.map((row) => Math.max(...row.map(Math.abs))));
  const [across, down] = [width * (width + GAP) - GAP, height * (height + GAP) - GAP];
  const whole = svg("svg", { viewBox: `-0.1 -0.1 ${across + 0.2} ${down + 0.2}`, role: "img" });
  whole.setAttribute("aria-label", "The weights with which each tap samples the window, a square each");
  shift.forEach((weights, tap) => {
    const [column, row] = place(tap, width, 1);
    const [left, top] = [column * (width + GAP), row * (height + GAP)];
    weights.forEach((weight, input) => {
      const [x, y] = place(input, width, 1);
      const kind = { class: weight < 0 ? "cold" : "heat", "fill-opacity": (Math.abs(weight) / strongest).toFixed(3) };
      whole.append(svg("rect", { ...kind, x: left + x, y: top + y, width: 1, height: 1 }));
    });
    whole.append(svg("rect", { class: "edge", x: left, y: top, width, height }));
    whole.append(svg("rect", { class: "own", x: left + column, y: top + row, width: 1, height: 1 }));
    const centre = centres[tap];
    const dot = svg("circle", {
      class: "centre",
      cx: left + centre.column / dilation[1] + width / 2,
      cy: top + centre.row / dilation[0] + height / 2,
      r: 0.2,
    });
    dot.dataset.row = String(centre.row);
    dot.dataset.column = String(centre.column);
    whole.append(dot);
  });
  return whole;
}
