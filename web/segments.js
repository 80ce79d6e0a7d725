// SPDX-License-Identifier: Apache-2.0
// From a segmenter's logits to the class of every pixel.

import { UserError } from "./errors.js";

/**
 * Check the outputs and return the class of every pixel of the first image, and the share of each class.
 *
 * @param {{type: string, dims: number[], data: Float32Array}[]} outputs of the model
 * @param {{batch: number, classNames: string[], file: string, image: string,
 *   size: {height: number, width: number}}} about the input
 * @returns {{labels: Uint32Array, shares: {name: string, label: number, share: number}[]}} the largest share
 *   first
 * @throws {UserError} the model is not a segmenter of these classes, or a logit is not finite
 */
export function segmentsOf(outputs, { batch, classNames, file, image, size }) {
  const [first] = outputs;
  const { height, width } = size;
  const classes = first?.dims[1];
  const fits =
    outputs.length === 1 &&
    first.type === "float32" &&
    String(first.dims) === String([batch, classes, height, width]) &&
    classes > 0;
  if (!fits) {
    const shapes = outputs.map(({ dims }) => dims.join(" x ")).join("; ");
    throw new UserError(
      `${file} must give logits of ${batch} x classes x ${height} x ${width}, but gives ${shapes}: it is not ` +
        "a segmenter; export it again.",
    );
  }
  if (classNames.length > 0 && classNames.length !== classes) {
    throw new UserError(
      `${file} must name all ${classes} classes of its model, but has ${classNames.length} names; ` +
        "export it again.",
    );
  }
  const area = height * width;
  const logits = first.data.subarray(0, classes * area);
  if (!logits.every(Number.isFinite)) {
    throw new UserError(
      `${file} must give finite outputs, but does not for ${image}; export it again, in float32.`,
    );
  }
  const labels = new Uint32Array(area);
  const counts = new Array(classes).fill(0);
  for (let pixel = 0; pixel < area; pixel++) {
    let best = 0;
    for (let label = 1; label < classes; label++) {
      if (logits[label * area + pixel] > logits[best * area + pixel]) {
        best = label;
      }
    }
    labels[pixel] = best;
    counts[best]++;
  }
  const shares = counts
    .map((count, label) => ({ name: classNames[label] ?? String(label), label, share: count / area }))
    .filter(({ share }) => share > 0)
    .sort((one, other) => other.share - one.share);
  return { labels, shares };
}
