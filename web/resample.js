// SPDX-License-Identifier: Apache-2.0
// Resizing as Pillow does it, to the same pixels: a filter that widens when an image shrinks, rows and columns
// one after the other, integer weights, and rounding to eight bits after each.

// Pillow's: 8 of 32 bits are the pixel's, 2 are left for sums above one.
const FRACTION_BITS = 32 - 8 - 2;

const FILTERS = {
  bilinear: { reach: 1, weight: (x) => Math.max(0, 1 - Math.abs(x)) },
  bicubic: { reach: 2, weight: cubic },
  box: { reach: 0.5, weight: (x) => (x > -0.5 && x <= 0.5 ? 1 : 0) },
  hamming: {
    reach: 1,
    weight: (x) => (Math.abs(x) < 1 ? sinc(x) * (0.54 + 0.46 * Math.cos(x * Math.PI)) : 0),
  },
  lanczos: { reach: 3, weight: (x) => (x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0) },
  nearest: null,
};

function sinc(x) {
  return x === 0 ? 1 : Math.sin(x * Math.PI) / (x * Math.PI);
}

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
 * Compute a window of a resized image, and nothing outside it.
 *
 * @param {ImageData} image of any size
 * @param {{height: number, width: number}} size of the resized image
 * @param {{top: number, left: number, height: number, width: number}} window of the resized image
 * @param {string} interpolation a name in `FILTERS`
 * @returns {Uint8ClampedArray} red, green and blue of each pixel of the window, row by row
 */
export function resample(image, size, window, interpolation) {
  const filter = FILTERS[interpolation];
  const across = weights(image.width, size.width, window.left, window.width, filter);
  const down = weights(image.height, size.height, window.top, window.height, filter);
  const source = { data: image.data, channels: 4, width: image.width };
  // As Pillow 13 does: first along the axis that makes the image smaller, else along its rows.
  const downFirst = size.width > image.width && size.height < image.height;
  return downFirst ? alongRows(alongColumns(source, down), across) : rowsFirst(source, across, down);
}

function rowsFirst(source, across, down) {
  const { from, to } = sourcesOf(down);
  const rows = { ...source, data: source.data.subarray(from * source.width * 4, to * source.width * 4) };
  const moved = down.map(({ first, shares }) => ({ first: first - from, shares }));
  const narrow = { data: alongRows(rows, across), channels: 3, width: across.length };
  return alongColumns(narrow, moved).data;
}

/** Every row resized to the places of `across`. */
function alongRows({ data, channels, width }, across) {
  const rows = data.length / (channels * width);
  const pixels = new Uint8ClampedArray(rows * across.length * 3);
  for (let row = 0; row < rows; row++) {
    across.forEach(({ first, shares }, column) => {
      const start = (row * width + first) * channels;
      sum(data, start, channels, shares, pixels, (row * across.length + column) * 3);
    });
  }
  return pixels;
}

/** Every column resized to the places of `down`. */
function alongColumns({ data, channels, width }, down) {
  const pixels = new Uint8ClampedArray(down.length * width * 3);
  down.forEach(({ first, shares }, row) => {
    for (let column = 0; column < width; column++) {
      const start = (first * width + column) * channels;
      sum(data, start, width * channels, shares, pixels, (row * width + column) * 3);
    }
  });
  return { data: pixels, channels: 3, width };
}

/** The first and the last, which is not among them, of the sources of all places. */
function sourcesOf(places) {
  return {
    from: places[0].first,
    to: Math.max(...places.map(({ first, shares }) => first + shares.length)),
  };
}

/** For each place of a window on one axis, the first of its sources and their weights, as integers. */
function weights(length, resized, start, count, filter) {
  const scale = length / resized;
  if (filter === null) {
    return nearest(length, scale, start, count);
  }
  const widening = Math.max(scale, 1);
  const reach = filter.reach * widening;
  return Array.from({ length: count }, (_, place) => {
    const centre = (start + place + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - reach + 0.5));
    const last = Math.min(length, Math.trunc(centre + reach + 0.5));
    const weight = (_, x) => filter.weight((x + first - centre + 0.5) * (1 / widening));
    const raw = Array.from({ length: last - first }, weight);
    const total = raw.reduce((sum, x) => sum + x, 0);
    return { first, shares: Int32Array.from(raw, (x) => fixedPoint(total === 0 ? x : x / total)) };
  });
}

/** The same where each place has one source, found as Pillow does, step by step. */
function nearest(length, scale, start, count) {
  const shares = Int32Array.of(fixedPoint(1));
  const places = [];
  for (let place = 0, from = scale / 2; place < start + count; place++, from += scale) {
    places.push({ first: Math.min(length - 1, Math.trunc(from)), shares });
  }
  return places.slice(start);
}

/** A weight as the nearest integer number of fractions, halves away from zero. */
function fixedPoint(share) {
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
