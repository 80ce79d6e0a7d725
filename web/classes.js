// SPDX-License-Identifier: Apache-2.0
// From logits to names and probabilities.

import { UserError } from "./errors.js";

/**
 * Check the outputs and return the logits of the first image.
 *
 * @param {{type: string, dims: number[], data: Float32Array}[]} outputs of the model
 * @param {{batch: number, classNames: string[], file: string, image: string}} about the input
 * @returns {Float32Array}
 * @throws {UserError} the model is not a classifier of these classes, or a logit is not finite
 */
export function logitsOf(outputs, { batch, classNames, file, image }) {
  const [first] = outputs;
  const [rows, classes] = first?.dims ?? [];
  const fits = outputs.length === 1 && first.type === "float32" && first.dims.length === 2;
  if (!fits || rows !== batch || classes < 1) {
    const shapes = outputs.map(({ dims }) => dims.join(" x ")).join("; ");
    throw new UserError(
      `${file} must give logits of ${batch} x classes, but gives ${shapes}: it is not a classifier; ` +
        "export it again.",
    );
  }
  if (classNames.length > 0 && classNames.length !== classes) {
    throw new UserError(
      `${file} must name all ${classes} classes of its model, but has ${classNames.length} names; ` +
        "export it again.",
    );
  }
  const logits = first.data.slice(0, classes);
  if (!logits.every(Number.isFinite)) {
    throw new UserError(
      `${file} must give finite outputs, but does not for ${image}; export it again, in float32.`,
    );
  }
  return logits;
}

/**
 * Return the likeliest classes.
 *
 * @param {Float32Array} logits of one image
 * @param {string[]} names of the classes; empty where they have none
 * @param {number} count of them
 * @returns {{name: string, probability: number}[]} the likeliest first
 */
export function likeliest(logits, names, count) {
  const highest = logits.reduce((most, x) => Math.max(most, x), -Infinity);
  const shares = Array.from(logits, (x) => Math.exp(x - highest));
  const total = shares.reduce((sum, x) => sum + x, 0);
  return shares
    .map((share, number) => ({ name: names[number] ?? String(number), probability: share / total }))
    .sort((first, second) => second.probability - first.probability)
    .slice(0, count);
}
