// SPDX-License-Identifier: Apache-2.0
// From logits to names and probabilities.

/**
 * The likeliest classes.
 *
 * @param {Float32Array} logits of one picture
 * @param {string[]} names of the classes; empty where they have none
 * @param {number} count how many to tell
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
