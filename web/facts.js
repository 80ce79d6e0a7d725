// SPDX-License-Identifier: Apache-2.0
// The facts in an exported file's metadata, read and checked.

import { UserError } from "./errors.js";
import { NAMES, TEXT, integer, list, number, optional, word } from "./fields.js";

// The version of the metadata that writers and readers agree on.
const FORMAT = "1";
// A side of the input, of the resized image that it is cut from, and the area of all that is run at once.
const MAX_INPUT = 4096;
const MAX_RESIZED = 8192;
const MAX_PIXELS = 2 ** 27;
const SIDE = optional(integer(1, 2 ** 16));
const TEXTS = {
  slideformer: TEXT,
  architecture: TEXT,
  precision: TEXT,
  interpolation: word("nearest", "bilinear", "bicubic", "box", "hamming", "lanczos"),
  crop_mode: word("center", "squash", "border"),
};
// These are JSON.
const VALUES = {
  class_names: NAMES,
  batch: SIDE,
  height: SIDE,
  width: SIDE,
  input_size: list(integer(1, MAX_INPUT), 3, 3),
  mean: list(number(0, 1), 3, 3),
  std: list(number(1e-6, 1e6), 3, 3),
  crop_pct: number(0.05, 20),
};

/**
 * Return how to prepare an image for a classifier, and how its classes are called.
 *
 * @param {Map<string, string>} metadata
 * @throws {UserError} the file is not of slideformer, of another format, of another task, or a fact is
 *   absent or out of its range
 */
export function readFacts(metadata) {
  const number = metadata.get("slideformer_format");
  const exporter = metadata.get("slideformer");
  if (number === undefined && exporter === undefined) {
    throw new UserError(
      "This file was not exported by slideformer; choose one that slideformer export wrote.",
    );
  }
  if (number !== FORMAT) {
    throw new UserError(
      `The file must be of format ${FORMAT}, but is of format ${number ?? "none"}, of slideformer ` +
        `${exporter ?? "unknown"}; export it again, or use the page of that version.`,
    );
  }
  if (metadata.get("task") !== "classify") {
    throw new UserError(
      `This page shows what classifiers see, but the file can ${metadata.get("task")}; run it with ` +
        "slideformer-runtime.",
    );
  }
  const facts = readAll(metadata);
  const [channels, height, width] = facts.input_size;
  const resized = [height, width].map((side) => Math.floor(side / facts.crop_pct));
  if (channels !== 3 || !resized.every((side) => side >= 1 && side <= MAX_RESIZED)) {
    throw invalid(
      "input_size",
      `3 channels and sides that are 1 to ${MAX_RESIZED} when divided by crop_pct`,
      metadata.get("input_size"),
    );
  }
  if ((facts.batch ?? 1) * height * width > MAX_PIXELS) {
    throw invalid("batch", `so small that its images have at most ${MAX_PIXELS} pixels`, metadata.get("batch"));
  }
  return {
    exporter: facts.slideformer,
    architecture: facts.architecture,
    precision: facts.precision,
    classNames: facts.class_names,
    batch: facts.batch,
    height,
    width,
    mean: facts.mean,
    std: facts.std,
    interpolation: facts.interpolation,
    cropPct: facts.crop_pct,
    cropMode: facts.crop_mode,
  };
}

/** Every value by its key, checked. */
function readAll(metadata) {
  const texts = new Map([["crop_mode", "center"], ...metadata]);
  const entries = Object.entries({ ...TEXTS, ...VALUES }).map(([key, field]) => {
    if (!texts.has(key)) {
      throw new UserError(`The file must have valid metadata, but ${key} is missing; export it again.`);
    }
    const value = key in VALUES ? parsed(key, texts.get(key)) : texts.get(key);
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
