// SPDX-License-Identifier: Apache-2.0
// Where the windows of layers are on their maps and on the image.

import { offsetOf } from "./attention.js";

/**
 * The places that the taps of one axis read, at one position of it.
 *
 * @param {number} position
 * @param {number} size of the axis
 * @param {number} taps
 * @param {number} dilation
 * @param {string} border of the operator
 * @returns {number[]} of each tap, perhaps outside of the axis
 */
export function placesOf(position, size, taps, dilation, border) {
  const step = (first) => Array.from({ length: taps }, (_, tap) => first + tap * dilation);
  if (border !== "clamp") {
    const places = step(position - (taps >> 1) * dilation);
    return border === "wrap" ? places.map((place) => ((place % size) + size) % size) : places;
  }
  // Positions with the same remainder are a grid of their own, in which the window slides inward.
  const remainder = position % dilation;
  const length = Math.ceil((size - remainder) / dilation);
  const first = Math.max(0, Math.min(Math.floor(position / dilation) - (taps >> 1), length - taps));
  return step(first * dilation + remainder);
}

/**
 * The window of a position of a layer.
 *
 * @param {object} layer with the size of its map
 * @param {{row: number, column: number}} cell
 * @returns {{row: number, column: number, inside: boolean}[]} the position that each tap reads
 */
export function windowOf(layer, { row, column }) {
  const [downward, across] = [along(layer, 0, row), along(layer, 1, column)];
  return downward.flatMap((y) =>
    across.map((x) => ({ row: y, column: x, inside: inside(y, layer.rows) && inside(x, layer.columns) })),
  );
}

/** Where a tap of the window of a position is, in words, seen from there. */
export function directionOf(layer, cell, tap) {
  const fixed = offsetOf(tap, layer.kernelSize, layer.dilation);
  const { row, column } = windowOf(layer, cell)[tap];
  // A clamped window slides inward near a border.
  const down = layer.border[0] === "clamp" ? row - cell.row : fixed[0];
  const across = layer.border[1] === "clamp" ? column - cell.column : fixed[1];
  const vertical = down === 0 ? [] : [`${Math.abs(down)} ${down < 0 ? "up" : "down"}`];
  const horizontal = across === 0 ? [] : [`${Math.abs(across)} ${across < 0 ? "left" : "right"}`];
  return [...vertical, ...horizontal].join(" and ") || "itself";
}

/**
 * The part of the image that a position of a layer depends on through the windows of its layers.
 *
 * @param {object[]} layers up to this one, in the order in which they run
 * @param {{row: number, column: number}} cell of the last of them
 * @param {{height: number, width: number}} image
 * @returns {{top: number, left: number, bottom: number, right: number}[]} in pixels: through the last layer alone,
 *   through the last two, and so on
 */
export function reachOf(layers, { row, column }, { height, width }) {
  const last = layers[layers.length - 1];
  let [rows, columns] = [pixelsOf(row, row, last), pixelsOf(column, column, last)];
  return [...layers].reverse().map((layer) => {
    rows = grown(layer, 0, rows);
    columns = grown(layer, 1, columns);
    return {
      top: rows[0],
      left: columns[0],
      bottom: Math.min(height, rows[1]),
      right: Math.min(width, columns[1]),
    };
  });
}

/** The position of a layer that a pixel belongs to. */
export function cellAt({ x, y }, { stride, rows, columns }) {
  const place = (pixel, size) => Math.min(size - 1, Math.floor(pixel / stride));
  return { row: place(y, rows), column: place(x, columns) };
}

function along(layer, axis, position) {
  const size = axis === 0 ? layer.rows : layer.columns;
  return placesOf(position, size, layer.kernelSize[axis], layer.dilation[axis], layer.border[axis]);
}

function inside(place, size) {
  return place >= 0 && place < size;
}

/** First pixel and the one after the last of some positions of one axis. */
function pixelsOf(first, last, { stride }) {
  return [first * stride, (last + 1) * stride];
}

/** The pixels of one axis that a layer reads for some pixels of its output. */
function grown(layer, axis, [start, stop]) {
  const size = axis === 0 ? layer.rows : layer.columns;
  const first = Math.floor(start / layer.stride);
  const last = Math.min(size, Math.ceil(stop / layer.stride)) - 1;
  const places = Array.from({ length: last - first + 1 }, (_, number) => along(layer, axis, first + number))
    .flat()
    .filter((place) => inside(place, size));
  return pixelsOf(
    places.reduce((least, place) => Math.min(least, place), first),
    places.reduce((most, place) => Math.max(most, place), last),
    layer,
  );
}
