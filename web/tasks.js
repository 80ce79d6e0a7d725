// SPDX-License-Identifier: Apache-2.0
// Tasks: how each makes an input of an image, results of a model's outputs, and rows and a drawing of these.

import { likeliest, logitsOf } from "./classes.js";
import { colourOfObject, coloursOfClasses } from "./colours.js";
import { objectsOf } from "./detections.js";
import { drawClasses, drawObjects } from "./draw.js";
import { UserError } from "./errors.js";
import { segmentsOf } from "./segments.js";
import { fullSizeTensor, toTensor } from "./tensor.js";

const TOP = 5;
const LEAST_SCORE = 0.5;
// A class of this name has no colour.
const BACKGROUND = "background";

/**
 * Each has `prepare(image, facts)`, which returns an input of one image with its size, and `results(outputs,
 * about)`, which returns rows of name, share and perhaps colour, and perhaps a function that draws.
 */
export const TASKS = {
  classify: {
    prepare: (image, facts) => ({
      pixels: toTensor(image, facts),
      size: { height: facts.height, width: facts.width },
    }),
    results: (outputs, about) => ({ rows: likeliest(logitsOf(outputs, about), about.classNames, TOP) }),
  },
  detect: { prepare: inItsSize, results: objects },
  segment: { prepare: inItsSize, results: segments },
};

function objects(outputs, about) {
  const found = objectsOf(outputs, about, LEAST_SCORE);
  return {
    rows: found.map(({ name, score, label }) => ({ name, probability: score, colour: colourOfObject(label) })),
    draw: (canvas, image) => drawObjects(canvas, image, found),
  };
}

function segments(outputs, about) {
  const { labels, shares } = segmentsOf(outputs, about);
  const colours = coloursOfClasses(outputs[0].dims[1], about.classNames[0] === BACKGROUND);
  return {
    rows: shares.map(({ name, share, label }) => ({ name, probability: share, colour: colours[label] })),
    draw: (canvas, image) => drawClasses(canvas, image, labels, colours),
  };
}

/** The input of a model that takes an image as it is. */
function inItsSize(image, facts) {
  const { width, height } = image;
  if (width !== (facts.width ?? width) || height !== (facts.height ?? height)) {
    throw new UserError(
      `The image must be ${facts.width ?? width} pixels wide and ${facts.height ?? height} high for this file, ` +
        `but is ${width} x ${height}; choose another, or export the model for any size.`,
    );
  }
  return { pixels: fullSizeTensor(image), size: { height, width } };
}
