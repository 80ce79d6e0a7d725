// SPDX-License-Identifier: Apache-2.0
// An exported model, run by ONNX Runtime.

import { layersOf } from "./attention.js";
import { openEngine } from "./engine.js";
import { readFacts } from "./facts.js";
import { readMetadata } from "./metadata.js";
import { TASKS } from "./tasks.js";
import { toImage } from "./tensor.js";

/**
 * Read a file and make it ready to run.
 *
 * @param {Uint8Array} bytes of the ONNX file
 * @param {string} file its name, for errors
 * @returns {Promise<{facts: object, look: function, engine: function, close: function}>} its facts, and the
 *   function that returns what it finds in an image: the `results` of a task and, of a file that gives attention
 *   weights, `inside`, its layers and the image as the model sees it
 * @throws {UserError} it is not a model that slideformer exported, or cannot be run here
 */
export async function openModel(bytes, file) {
  const facts = readFacts(readMetadata(bytes));
  const { run, outputNames, engine, close } = await openEngine(bytes);
  const batch = facts.batch ?? 1;
  const task = TASKS[facts.task];
  const inner = new Set(facts.attention.map(({ output }) => output));

  /** Return what the model finds in an image; its name is for errors. */
  async function look(image, name) {
    const { pixels, size } = task.prepare(image, facts);
    // A file that takes only one number of images gets empty ones, whose outputs are dropped.
    const outputs = await run(batch === 1 ? pixels : padded(pixels, batch), [batch, 3, size.height, size.width]);
    const about = { batch, size, classNames: facts.classNames, file, image: name };
    const answers = outputNames.filter((output) => !inner.has(output)).map((output) => outputs[output]);
    const results = task.results(answers, about);
    if (inner.size === 0) {
      return results;
    }
    return { ...results, inside: { image: toImage(pixels, size, facts), layers: layersOf(outputs, facts.attention, about) } };
  }

  return { facts, look, engine, close };
}

/** The images of an input, of which all but the first are empty. */
function padded(pixels, batch) {
  const all = new Float32Array(batch * pixels.length);
  all.set(pixels);
  return all;
}
