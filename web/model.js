// SPDX-License-Identifier: Apache-2.0
// An exported classifier, run by ONNX Runtime's WebAssembly.

import * as ort from "./ort/ort.wasm.min.mjs";

import { likeliest, logitsOf } from "./classes.js";
import { UserError } from "./errors.js";
import { readFacts } from "./facts.js";
import { readMetadata } from "./metadata.js";
import { toTensor } from "./tensor.js";

ort.env.wasm.wasmPaths = new URL("./ort/", import.meta.url).href;
// More threads need memory that is shared, which browsers allow only with headers that a plain server does
// not send.
ort.env.wasm.numThreads = 1;
ort.env.logLevel = "error";

/**
 * Read a file and make it ready to run.
 *
 * @param {Uint8Array} bytes of the ONNX file
 * @param {string} file its name, for errors
 * @returns {Promise<{facts: object, classify: function, close: function}>} what it tells of itself, and what
 *   gives the likeliest classes of a picture
 * @throws {UserError} it is no classifier that slideformer exported, or cannot be run here
 */
export async function openModel(bytes, file) {
  const facts = readFacts(readMetadata(bytes));
  const session = await started(bytes);
  const batch = facts.batch ?? 1;
  const [input] = session.inputNames;
  const shape = [batch, 3, facts.height, facts.width];

  /** The likeliest classes of a picture, which has a name for errors. */
  async function classify(picture, count, name) {
    // A file that takes some number of pictures alone gets empty ones, whose answers are dropped.
    const pixels = new Float32Array(batch * 3 * facts.height * facts.width);
    pixels.set(toTensor(picture, facts));
    const results = await ran({ [input]: new ort.Tensor("float32", pixels, shape) });
    const outputs = session.outputNames.map((output) => results[output]);
    const logits = logitsOf(outputs, { batch, classNames: facts.classNames, file, picture: name });
    return likeliest(logits, facts.classNames, count);
  }

  async function ran(feeds) {
    try {
      return await session.run(feeds);
    } catch (error) {
      throw refused(error);
    }
  }

  return { facts, classify, close: () => session.release() };
}

async function started(bytes) {
  try {
    return await ort.InferenceSession.create(bytes, { executionProviders: ["wasm"], logSeverityLevel: 3 });
  } catch (error) {
    throw refused(error);
  }
}

function refused(error) {
  return new UserError(
    `ONNX Runtime must be able to run the file, but says: ${error.message ?? error}; export it again.`,
  );
}
