// SPDX-License-Identifier: Apache-2.0
// The facts about the layers whose attention weights a file gives, checked.

import { UserError } from "./errors.js";
import { TEXT, integer, list, number, optional, word } from "./fields.js";

const MAX_LAYERS = 1000;
const MAX_TAPS = 4096;
const COUNT = integer(1, 2 ** 16);
const FIELDS = {
  output: TEXT,
  stage: optional(integer(1, MAX_LAYERS)),
  block: optional(integer(1, MAX_LAYERS)),
  kernel_size: list(COUNT, 2, 2),
  dilation: list(COUNT, 2, 2),
  border: list(word("zeros", "mask", "clamp", "wrap"), 2, 2),
  stride: COUNT,
  heads: COUNT,
  shift: optional(list(list(number(-1e9, 1e9), 1, MAX_TAPS), 1, MAX_TAPS)),
};

/**
 * Return the layers, in the order in which they run.
 *
 * @param {any} values of the metadata
 * @returns {{output: string, stage: number|null, block: number|null, kernelSize: number[], dilation: number[],
 *   border: string[], stride: number, heads: number, shift: number[][]|null}[]}
 * @throws {UserError} a value is absent or out of its range
 */
export function readLayers(values) {
  if (!Array.isArray(values) || values.length > MAX_LAYERS) {
    throw new UserError(`The file's attention must be a list of at most ${MAX_LAYERS} layers; export it again.`);
  }
  return values.map((value) => {
    const wrong = Object.entries(FIELDS).find(([key, field]) => !field.accepts(value?.[key]));
    if (wrong !== undefined) {
      const [key, { must }] = wrong;
      throw new UserError(`The file's ${key} of a layer must be ${must}, but is not; export it again.`);
    }
    const { kernel_size: kernelSize, ...others } = value;
    const taps = kernelSize[0] * kernelSize[1];
    const square = (rows) => rows.length === taps && rows.every((row) => row.length === taps);
    if (value.shift !== null && !square(value.shift)) {
      throw new UserError(`The file's shift of a layer must be of ${taps} x ${taps} taps, but is not; export it again.`);
    }
    return { ...others, kernelSize };
  });
}
