// SPDX-License-Identifier: Apache-2.0
// Resizing as Pillow does it, to the same pixels: a filter that widens when a picture shrinks, rows first and
// then columns, weights in whole numbers, and rounding to eight bits after each of both.

import { UserError } from "./errors.js";

// Pillow's: 8 of 32 bits are the pixel's, 2 are left for sums above one.
const FRACTION_BITS = 32 - 8 - 2;

const FILTERS = {
  bilinear: { reach: 1, weight: (x) => Math.max(0, 1 - Math.abs(x)) },
  bicubic: { reach: 2, weight: cubic },
};

/** Keys' cubic with a = -1/2. */
function cubic(distance) {
  const a = -0.5;
  const x = Math.abs(distance);
  if (x < 1) {
    return ((a + 2) * x - (a + 3)) * x * x + 1;
  }
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

/**
 * A window of a resized picture; what lies outside it is not computed.
 *
 * @param {ImageData} picture of any size
 * @param {{height: number, width: number}} size to resize the whole to
 * @param {{top: number, left: number, height: number, width: number}} window of the resized picture
 * @param {string} interpolation bilinear or bicubic
 * @returns {Uint8ClampedArray} red, green and blue of each pixel of the window, row by row
 * @throws {UserError} the interpolation is another one
 */
export function resample(picture, size, window, interpolation) {
  const filter = FILTERS[interpolation];
  if (filter === undefined) {
    throw new UserError(
      `The file's interpolation must be ${Object.keys(FILTERS).join(" or ")} on this page, but is ` +
        `${interpolation}; run it with slideformer-runtime.`,
    );
  }
  const across = weights(picture.width, size.width, window.left, window.width, filter);
  const down = weights(picture.height, size.height, window.top, window.height, filter);
  const top = down[0].first;
  const rows = Math.max(...down.map(({ first, shares }) => first + shares.length)) - top;
  const narrow = new Uint8ClampedArray(rows * window.width * 3);
  for (let row = 0; row < rows; row++) {
    const start = (top + row) * picture.width * 4;
    across.forEach(({ first, shares }, column) => {
      sum(picture.data, start + first * 4, 4, shares, narrow, (row * window.width + column) * 3);
    });
  }
  const pixels = new Uint8ClampedArray(window.height * window.width * 3);
  down.forEach(({ first, shares }, row) => {
    for (let column = 0; column < window.width; column++) {
      const start = ((first - top) * window.width + column) * 3;
      sum(narrow, start, window.width * 3, shares, pixels, (row * window.width + column) * 3);
    }
  });
  return pixels;
}

/** Of each place of a window on one axis: where its sources begin, and their shares, in whole numbers. */
function weights(length, resized, start, count, filter) {
  const scale = length / resized;
  const widening = Math.max(scale, 1);
  const reach = filter.reach * widening;
  return Array.from({ length: count }, (_, place) => {
    const centre = (start + place + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - reach + 0.5));
    const last = Math.min(length, Math.trunc(centre + reach + 0.5));
    const weight = (_, x) => filter.weight((x + first - centre + 0.5) * (1 / widening));
    const raw = Array.from({ length: last - first }, weight);
    const total = raw.reduce((sum, x) => sum + x, 0);
    return { first, shares: Int32Array.from(raw, (x) => whole(total === 0 ? x : x / total)) };
  });
}

/** The nearest whole number of fractions of a share, halves away from zero. */
function whole(share) {
  return Math.trunc(share * 2 ** FRACTION_BITS + (share < 0 ? -0.5 : 0.5));
}

/** The weighted sum of pixels that lie a step apart, rounded to eight bits; the target clamps it. */
function sum(source, start, step, shares, target, place) {
  const half = 1 << (FRACTION_BITS - 1);
  let [red, green, blue] = [half, half, half];
  for (let x = 0, from = start; x < shares.length; x++, from += step) {
    red += source[from] * shares[x];
    green += source[from + 1] * shares[x];
    blue += source[from + 2] * shares[x];
  }
  target[place] = red >> FRACTION_BITS;
  target[place + 1] = green >> FRACTION_BITS;
  target[place + 2] = blue >> FRACTION_BITS;
}
