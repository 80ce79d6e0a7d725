// SPDX-License-Identifier: Apache-2.0
// From a detector's outputs to objects: names, scores, boxes and masks.

import { UserError } from "./errors.js";
import { pasted } from "./masks.js";

const KINDS = ["float32", "float32", "int64", "float32"];

/**
 * Check the outputs and return the objects in an image, the likeliest first.
 *
 * @param {{type: string, dims: number[], data: ArrayLike}[]} outputs boxes, scores, labels and perhaps masks
 * @param {{classNames: string[], file: string, image: string, size: {height: number, width: number}}} about
 * @param {number} least score of an object
 * @returns {{name: string, label: number, score: number, box: number[], mask: object|null}[]}
 * @throws {UserError} the model is not a detector of these classes, or an output is not finite
 */
export function objectsOf(outputs, { classNames, file, image, size }, least) {
  checkOutputs(outputs, file);
  const [boxes, scores, labels, masks] = outputs;
  const finite = [boxes, scores, ...(masks ? [masks] : [])].every(({ data }) => data.every(Number.isFinite));
  if (!finite) {
    throw new UserError(
      `${file} must give finite outputs, but does not for ${image}; export it again, in float32.`,
    );
  }
  const objects = [];
  for (let row = 0; row < scores.dims[0]; row++) {
    const label = Number(labels.data[row]);
    if (label < 1 || (classNames.length > 0 && label > classNames.length)) {
      throw new UserError(
        `${file} must give labels from 1 to its number of classes, but gives ${label}; export it again.`,
      );
    }
    // In 32 bits as the scores are, so that an equal one counts.
    if (scores.data[row] >= Math.fround(least)) {
      const box = Array.from(boxes.data.subarray(4 * row, 4 * row + 4));
      objects.push({
        name: classNames[label - 1] ?? String(label),
        label,
        score: scores.data[row],
        box,
        mask: masks ? maskOf(masks, row, box, size) : null,
      });
    }
  }
  return objects;
}

function maskOf({ data, dims }, row, box, size) {
  const side = dims[1];
  return pasted(data.subarray(row * side * side, (row + 1) * side * side), side, box, size);
}

function checkOutputs(outputs, file) {
  const count = outputs[1]?.dims[0];
  const side = outputs[3]?.dims[1];
  const forms = [[count, 4], [count], [count], [count, side, side]];
  const fits =
    (outputs.length === 3 || outputs.length === 4) &&
    outputs.every(
      ({ type, dims }, number) => type === KINDS[number] && String(dims) === String(forms[number]),
    );
  if (!fits) {
    const shapes = outputs.map(({ dims }) => dims.join(" x ")).join("; ");
    throw new UserError(
      `${file} must give boxes, scores and labels of N objects, but gives ${shapes}: it is not a detector; ` +
        "export it again.",
    );
  }
}
