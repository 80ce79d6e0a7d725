// SPDX-License-Identifier: Apache-2.0
// The facts in an exported file's metadata, read and checked.

import { UserError } from "./errors.js";
import { NAMES, TEXT, integer, list, number, optional, word } from "./fields.js";
import { readLayers } from "./layers.js";

// The versions of the metadata that are read here; the second is of detectors with masks, the third of models that
// also give their attention weights.
const FORMATS = ["1", "2", "3"];
const TASKS = ["classify", "segment", "detect"];
// A side of the input, of the resized image that it is cut from, and the area of all that is run at once.
const MAX_INPUT = 4096;
const MAX_RESIZED = 8192;
const MAX_PIXELS = 2 ** 27;
const SIDE = optional(integer(1, 2 ** 16));
const TEXTS = { slideformer: TEXT, architecture: TEXT, precision: TEXT, task: word(...TASKS) };
// These are JSON.
const VALUES = { class_names: NAMES, batch: SIDE, height: SIDE, width: SIDE };
// Of classifiers, how an image is prepared.
const PREPARING_TEXTS = {
  interpolation: word("nearest", "bilinear", "bicubic", "box", "hamming", "lanczos"),
  crop_mode: word("center", "squash", "border"),
};
const PREPARING_VALUES = {
  input_size: list(integer(1, MAX_INPUT), 3, 3),
  mean: list(number(0, 1), 3, 3),
  std: list(number(1e-6, 1e6), 3, 3),
  crop_pct: number(0.05, 20),
};

/**
 * Return what a file says about its model: its task, how an image is prepared, how classes are called.
 *
 * @param {Map<string, string>} metadata
 * @throws {UserError} the file is not of slideformer, of another format, or a fact is absent or out of its
 *   range
 */
export function readFacts(metadata) {
  const number = metadata.get("slideformer_format");
  const exporter = metadata.get("slideformer");
  if (number === undefined && exporter === undefined) {
    throw new UserError(
      "This file was not exported by slideformer; choose one that slideformer export wrote.",
    );
  }
  if (!FORMATS.includes(number)) {
    throw new UserError(
      `The file must be of format ${FORMATS[0]} to ${FORMATS.at(-1)}, but is of format ${number ?? "none"}, of slideformer ` +
        `${exporter ?? "unknown"}; export it again, or use the page of that version.`,
    );
  }
  const facts = readAll(metadata, TEXTS, VALUES);
  const { task, batch, height, width } = facts;
  const about = {
    task,
    exporter: facts.slideformer,
    architecture: facts.architecture,
    precision: facts.precision,
    classNames: facts.class_names,
    batch,
    height,
    width,
    attention: metadata.has("attention") ? readLayers(parsed("attention", metadata.get("attention"))) : [],
  };
  const how = task === "classify" ? preparing(metadata) : {};
  const sides = { height: height ?? 1, width: width ?? 1, ...how };
  if ((batch ?? 1) * sides.height * sides.width > MAX_PIXELS) {
    throw invalid("batch", `so small that its images have at most ${MAX_PIXELS} pixels`, metadata.get("batch"));
  }
  return { ...about, ...how };
}

/** How an image is prepared for a classifier. */
function preparing(metadata) {
  const texts = new Map([["crop_mode", "center"], ...metadata]);
  const facts = readAll(texts, PREPARING_TEXTS, PREPARING_VALUES);
  const [channels, height, width] = facts.input_size;
  const resized = [height, width].map((side) => Math.floor(side / facts.crop_pct));
  if (channels !== 3 || !resized.every((side) => side >= 1 && side <= MAX_RESIZED)) {
    throw invalid(
      "input_size",
      `3 channels and sides that are 1 to ${MAX_RESIZED} when divided by crop_pct`,
      metadata.get("input_size"),
    );
  }
  return {
    height,
    width,
    mean: facts.mean,
    std: facts.std,
    interpolation: facts.interpolation,
    cropPct: facts.crop_pct,
    cropMode: facts.crop_mode,
  };
}

/** Every value by its key, checked; those of `values` are JSON. */
function readAll(texts, words, values) {
  const entries = Object.entries({ ...words, ...values }).map(([key, field]) => {
    if (!texts.has(key)) {
      throw new UserError(`The file must have valid metadata, but ${key} is missing; export it again.`);
    }
    const value = key in values ? parsed(key, texts.get(key)) : texts.get(key);
    if (!field.accepts(value)) {
      throw invalid(key, field.must, texts.get(key));
    }
    return [key, value];
  });
  return Object.fromEntries(entries);
}

/** The value of a text that is JSON. */
function parsed(key, text) {
  try {
    return JSON.parse(text);
  } catch {
    throw invalid(key, "JSON", text);
  }
}

function invalid(key, must, text) {
  return new UserError(`The file's ${key} must be ${must}, but is ${text.slice(0, 60)}; export it again.`);
}
