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
 * @returns {Promise<{facts: object, classify: function, close: function}>} its facts, and the
 *   function that returns the likeliest classes of an image
 * @throws {UserError} it is not a classifier that slideformer exported, or cannot be run here
 */
export async function openModel(bytes, file) {
  const facts = readFacts(readMetadata(bytes));
  const session = await createSession(bytes);
  const batch = facts.batch ?? 1;
  const [input] = session.inputNames;
  const shape = [batch, 3, facts.height, facts.width];

  /** Return the likeliest classes of an image; its name is for errors. */
  async function classify(image, count, name) {
    // A file that takes only one number of images gets empty ones, whose outputs are dropped.
    const pixels = new Float32Array(batch * 3 * facts.height * facts.width);
    pixels.set(toTensor(image, facts));
    const results = await runSession({ [input]: new ort.Tensor("float32", pixels, shape) });
    const outputs = session.outputNames.map((output) => results[output]);
    const logits = logitsOf(outputs, { batch, classNames: facts.classNames, file, image: name });
    return likeliest(logits, facts.classNames, count);
  }

  async function runSession(feeds) {
    try {
      return await session.run(feeds);
    } catch (error) {
      throw cannotRun(error);
    }
  }

  return { facts, classify, close: () => session.release() };
}

async function createSession(bytes) {
  try {
    return await ort.InferenceSession.create(bytes, { executionProviders: ["wasm"], logSeverityLevel: 3 });
  } catch (error) {
    throw cannotRun(error);
  }
}

function cannotRun(error) {
  return new UserError(
    `ONNX Runtime must be able to run the file, but says: ${error.message ?? error}; export it again.`,
  );
}
