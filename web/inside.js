// SPDX-License-Identifier: Apache-2.0
// Looking inside: the chosen layer and position, and what is shown of them. The model has run before.

import { meanOf, weightsAt } from "./attention.js";
import { drawHeads, drawLayers, listLayers } from "./panels.js";
import { drawScene } from "./scene.js";
import { drawShift } from "./shift.js";
import { cellAt, directionOf, reachOf, windowOf } from "./windows.js";

const HINT =
  "This file has no attention weights; slideformer export RUN --to onnx --with attention writes one to look inside.";
const WITHOUT_IMAGE = "Choose an image, then a position in it.";
// Heads whose strongest tap is said; all are in the panel.
const MOST_SAID = 4;
const STEPS = { ArrowUp: [0, -1], ArrowDown: [0, 1], ArrowLeft: [-1, 0], ArrowRight: [1, 0] };

const element = (id) => document.getElementById(id);

// The image as the model sees it, and its layers; null before there are any.
let found = null;
let chosen = 0;
// A pixel of that image, so that it stays where it is when another layer is chosen, or an image of this size.
let place = { x: 0, y: 0 };
let size = "";

element("scene").addEventListener("click", ({ offsetX, offsetY, target }) => {
  const { width, height } = found.image;
  move({ x: (offsetX / target.clientWidth) * width, y: (offsetY / target.clientHeight) * height });
});
element("scene").addEventListener("keydown", (event) => {
  const step = STEPS[event.key];
  if (step !== undefined && !event.altKey && !event.ctrlKey && !event.metaKey) {
    // Else the page would scroll.
    event.preventDefault();
    const { stride } = found.layers[chosen];
    const { row, column } = cellAt(place, found.layers[chosen]);
    move({ x: (column + step[0] + 0.5) * stride, y: (row + step[1] + 0.5) * stride });
  }
});
element("layers").addEventListener("change", ({ target }) => {
  chosen = Number(target.value);
  drawShift(found.layers[chosen]);
  show();
});

/** Say whether a model can be looked into, before there is an image. */
export function offerInside({ attention, task }) {
  inspect(null);
  chosen = 0;
  listLayers(attention);
  element("inside").hidden = task === "detect";
  element("inside-hint").textContent = attention.length === 0 ? HINT : WITHOUT_IMAGE;
}

/**
 * Show a position of an image that a model has looked at; null for none.
 *
 * @param {{image: ImageData, layers: object[]}|null} looked
 */
export function inspect(looked) {
  found = looked;
  element("inside-parts").hidden = found === null;
  element("inside-hint").hidden = found !== null;
  if (found === null) {
    return;
  }
  const { width, height } = found.image;
  if (size !== `${width} x ${height}`) {
    size = `${width} x ${height}`;
    place = { x: width / 2, y: height / 2 };
  }
  drawShift(found.layers[chosen]);
  show();
}

function move({ x, y }) {
  const { width, height } = found.image;
  place = { x: Math.max(0, Math.min(width - 1, x)), y: Math.max(0, Math.min(height - 1, y)) };
  show();
}

/** Show the position everywhere. */
function show() {
  const { image, layers } = found;
  const rows = layers.map((layer, number) => {
    const cell = cellAt(place, layer);
    return {
      layer,
      mean: meanOf(weightsAt(layer, cell)),
      reach: reachOf(layers.slice(0, number + 1), cell, image),
    };
  });
  const { layer, mean, reach } = rows[chosen];
  const cell = cellAt(place, layer);
  const heads = weightsAt(layer, cell);
  const taps = windowOf(layer, cell);
  drawScene(element("scene"), image, { layer, cell, taps, mean, reach });
  drawLayers(rows);
  drawHeads(layer, heads, taps);
  element("inside-said").textContent = said(layer, cell, heads, reach);
}

/** What is shown, in words. */
function said(layer, cell, heads, reach) {
  const strongest = heads.map((weights, head) => {
    const tap = weights.indexOf(Math.max(...weights));
    return `head ${head + 1}, ${directionOf(layer, cell, tap)}, ${(100 * weights[tap]).toFixed(0)} %`;
  });
  const { top, left, bottom, right } = reach.at(-1);
  const heard = strongest.length > MOST_SAID ? [...strongest.slice(0, MOST_SAID), "and more"] : strongest;
  return (
    `Layer ${chosen + 1}, row ${cell.row + 1} of ${layer.rows}, column ${cell.column + 1} of ${layer.columns}. ` +
    `Strongest weights: ${heard.join("; ")}. Sees ${right - left} x ${bottom - top} pixels through ` +
    `${reach.length === 1 ? "layer 1" : `layers 1 to ${reach.length}`}.`
  );
}
