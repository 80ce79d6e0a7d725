// SPDX-License-Identifier: Apache-2.0
// An exported model, run by ONNX Runtime's WebAssembly.

import * as ort from "./ort/ort.wasm.min.mjs";

import { UserError } from "./errors.js";
import { readFacts } from "./facts.js";
import { readMetadata } from "./metadata.js";
import { TASKS } from "./tasks.js";

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
 * @returns {Promise<{facts: object, look: function, close: function}>} its facts, and the function that returns
 *   what it finds in an image, as the `results` of a task
 * @throws {UserError} it is not a model that slideformer exported, or cannot be run here
 */
export async function openModel(bytes, file) {
  const facts = readFacts(readMetadata(bytes));
  const session = await createSession(bytes);
  const batch = facts.batch ?? 1;
  const [input] = session.inputNames;
  const task = TASKS[facts.task];

  /** Return what the model finds in an image; its name is for errors. */
  async function look(image, name) {
    const { pixels, size } = task.prepare(image, facts);
    // A file that takes only one number of images gets empty ones, whose outputs are dropped.
    const all = new Float32Array(batch * pixels.length);
    all.set(pixels);
    const shape = [batch, 3, size.height, size.width];
    const results = await runSession({ [input]: new ort.Tensor("float32", all, shape) });
    const outputs = session.outputNames.map((output) => results[output]);
    return task.results(outputs, { batch, size, classNames: facts.classNames, file, image: name });
  }

  async function runSession(feeds) {
    try {
      return await session.run(feeds);
    } catch (error) {
      throw cannotRun(error);
    }
  }

  return { facts, look, close: () => session.release() };
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
