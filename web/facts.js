// SPDX-License-Identifier: Apache-2.0
// What an exported file tells of itself, read and checked.

import { UserError } from "./errors.js";

// The number of the agreement between whoever writes such files and whoever reads them.
const FORMAT = "1";

/**
 * How to prepare a picture for a classifier, and how to name its answers.
 *
 * @param {Map<string, string>} metadata
 * @throws {UserError} the file is not of slideformer, of another format, of another task, or lacks a fact
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
  const fact = (key) => {
    if (!metadata.has(key)) {
      throw new UserError(`The file must tell all of its facts, but has no ${key}; export it again.`);
    }
    return metadata.get(key);
  };
  const [, height, width] = value("input_size", fact);
  return {
    exporter: fact("slideformer"),
    architecture: fact("architecture"),
    precision: fact("precision"),
    classNames: value("class_names", fact),
    batch: value("batch", fact),
    height,
    width,
    mean: value("mean", fact),
    std: value("std", fact),
    interpolation: fact("interpolation"),
    cropShare: value("crop_pct", fact),
    cropMode: metadata.get("crop_mode") ?? "center",
  };
}

/** The value of a fact that is JSON. */
function value(key, fact) {
  const text = fact(key);
  try {
    return JSON.parse(text);
  } catch {
    throw new UserError(`The file's ${key} must be readable, but is ${text}; export it again.`);
  }
}
