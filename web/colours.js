// SPDX-License-Identifier: Apache-2.0
// The colours of classes, those of slideformer predict.

// Of detectors: distinct for the colour-blind too (after Okabe and Ito); repeated for further classes.
const OF_OBJECTS = ["#e69f00", "#56b4e9", "#009e73", "#f0e442", "#cc79a7", "#d55e00", "#9db4ff"];
// Of segmenters: each hue is a golden section of the colour circle away from the one before.
const GOLDEN = 0.618034;
const FIRST_HUE = 0.08;
// Further rounds are darker, then paler: brightness and saturation.
const ROUNDS = [
  [0.95, 0.85],
  [0.65, 0.9],
  [0.9, 0.5],
];

/** Red, green and blue of a detector's class, counted from 1. */
export function colourOfObject(label) {
  const text = OF_OBJECTS[(label - 1) % OF_OBJECTS.length];
  return [1, 3, 5].map((start) => Number.parseInt(text.slice(start, start + 2), 16));
}

/** Red, green and blue of each class of a segmenter; a background is black, which leaves the image unchanged. */
export function coloursOfClasses(count, background) {
  const colours = Array.from({ length: count - (background ? 1 : 0) }, (_, number) => {
    const [value, saturation] = ROUNDS[Math.floor(number / 9) % 3];
    return rgb((FIRST_HUE + GOLDEN * number) % 1, saturation, value);
  });
  return background ? [[0, 0, 0], ...colours] : colours;
}

/** Hue, saturation and value, each from 0 to 1, as red, green and blue from 0 to 255. */
function rgb(hue, saturation, value) {
  const channel = (offset) => {
    const place = (offset + hue * 6) % 6;
    return value - value * saturation * Math.max(0, Math.min(place, 4 - place, 1));
  };
  return [channel(5), channel(3), channel(1)].map((x) => Math.round(255 * x));
}

/** A colour as style sheets have it. */
export function css([red, green, blue]) {
  return `rgb(${red} ${green} ${blue})`;
}
