// SPDX-License-Identifier: Apache-2.0
// The attention weights of layers: read from a model's outputs, for one position at a time.

import { UserError } from "./errors.js";

/**
 * Check the outputs and return each layer with its map and weights, of the first image.
 *
 * @param {Object<string, {type: string, dims: number[], data: Float32Array}>} outputs by name
 * @param {object[]} layers of the facts
 * @param {{batch: number, file: string, image: string}} about the input
 * @returns {object[]} the layers, with `rows` and `columns` of the map, and its `weights`
 * @throws {UserError} an output is not that of its layer, or a weight is not finite
 */
export function layersOf(outputs, layers, { batch, file, image }) {
  return layers.map((layer) => {
    const { type, dims, data } = outputs[layer.output] ?? { type: "none", dims: [], data: [] };
    const [, rows, columns] = dims;
    const taps = tapsOf(layer);
    if (type !== "float32" || String(dims) !== String([batch, rows, columns, layer.heads, taps])) {
      throw new UserError(
        `${file} must give weights of ${batch} x height x width x ${layer.heads} x ${taps} as ${layer.output}, but ` +
          `gives ${dims.join(" x ") || "none"}; export it again.`,
      );
    }
    const weights = data.subarray(0, rows * columns * layer.heads * taps);
    if (!weights.every(Number.isFinite)) {
      throw new UserError(`${file} must give finite weights, but does not for ${image}; export it again.`);
    }
    return { ...layer, rows, columns, weights };
  });
}

/** Number of taps of a layer's window. */
export function tapsOf({ kernelSize: [height, width] }) {
  return height * width;
}

/** The weights of each head at a position: a list of T numbers a head. */
export function weightsAt(layer, { row, column }) {
  const taps = tapsOf(layer);
  const start = (row * layer.columns + column) * layer.heads * taps;
  return Array.from({ length: layer.heads }, (_, head) =>
    layer.weights.subarray(start + head * taps, start + (head + 1) * taps),
  );
}

/** The mean over the heads: T numbers. */
export function meanOf(heads) {
  return Array.from(heads[0], (_, tap) => heads.reduce((sum, weights) => sum + weights[tap], 0) / heads.length);
}

/**
 * Where each tap of a deformed layer really samples: the centre of its weights over the window.
 *
 * The weights of a shift may be negative, which count as much as positive ones.
 *
 * @param {object} layer
 * @returns {{row: number, column: number}[]} in positions from the middle of the window
 */
export function centresOf({ kernelSize, dilation, shift }) {
  return shift.map((weights, tap) => {
    const total = weights.reduce((sum, weight) => sum + Math.abs(weight), 0);
    const along = (axis) =>
      weights.reduce((sum, weight, input) => sum + Math.abs(weight) * offsetOf(input, kernelSize, dilation)[axis], 0);
    const [row, column] =
      total === 0 ? offsetOf(tap, kernelSize, dilation) : [along(0) / total, along(1) / total];
    return { row, column };
  });
}

/** Rows and columns from the middle of the window to a tap, in positions. */
export function offsetOf(tap, [height, width], [down, across]) {
  const [row, column] = [Math.floor(tap / width), tap % width];
  return [(row - (height >> 1)) * down, (column - (width >> 1)) * across];
}
