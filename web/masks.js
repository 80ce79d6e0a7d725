// SPDX-License-Identifier: Apache-2.0
// From a mask in its box to the pixels of an image, as torchvision's detectors make it.

// A pixel of a higher probability belongs to a mask.
const THRESHOLD = 0.5;
const f32 = Math.fround;

/**
 * Stretch a mask over its box.
 *
 * @param {Float32Array} mask of side x side, from 0 to 1
 * @param {number} side
 * @param {number[]} box left, top, right and bottom in pixels
 * @param {{height: number, width: number}} image its size
 * @returns {{top: number, left: number, height: number, width: number, on: Uint8Array}} the part of the image
 *   that the box covers, and 1 for each pixel that is on the object
 */
export function pasted(mask, side, box, image) {
  // With a border of one that is not on the object, which the box grows by, too.
  const bordered = side + 2;
  const [left, top, right, bottom] = grown(box, f32(bordered / side));
  const rows = span(top, bottom, bordered, image.height);
  const columns = span(left, right, bordered, image.width);
  const value = (row, column) =>
    row > 0 && column > 0 && row <= side && column <= side ? mask[(row - 1) * side + column - 1] : 0;
  const on = new Uint8Array(rows.places.length * columns.places.length);
  rows.places.forEach((row, y) => {
    columns.places.forEach((column, x) => {
      const upper = mixed(value(row.first, column.first), value(row.first, column.second), column.share);
      const lower = mixed(value(row.second, column.first), value(row.second, column.second), column.share);
      on[y * columns.places.length + x] = mixed(upper, lower, row.share) > THRESHOLD ? 1 : 0;
    });
  });
  return { top: rows.start, left: columns.start, height: rows.places.length, width: columns.places.length, on };
}

function mixed(first, second, share) {
  return f32(f32(first * f32(1 - share)) + f32(second * share));
}

/** A box of so many times the size around the same centre, cut to whole pixels, in 32 bits as PyTorch computes. */
function grown([left, top, right, bottom], scale) {
  const axis = (low, high) => {
    const centre = f32(f32(high + low) * 0.5);
    const half = f32(f32(f32(high - low) * 0.5) * scale);
    return [Math.trunc(f32(centre - half)), Math.trunc(f32(centre + half))];
  };
  const [first, last] = axis(left, right);
  const [upper, lower] = axis(top, bottom);
  return [first, upper, last, lower];
}

/** The pixels of one axis from low to high, inside the image, and between which values each lies. */
function span(low, high, side, length) {
  const start = Math.max(low, 0);
  const stop = Math.max(Math.min(high + 1, length), start);
  const scale = f32(side / Math.max(high - low + 1, 1));
  const places = Array.from({ length: stop - start }, (_, number) => {
    const place = Math.max(f32(f32(f32(start + number - low + 0.5) * scale) - 0.5), 0);
    const first = Math.min(Math.trunc(place), side - 1);
    return { first, second: Math.min(first + 1, side - 1), share: f32(place - first) };
  });
  return { start, places };
}
