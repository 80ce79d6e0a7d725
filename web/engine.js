// SPDX-License-Identifier: Apache-2.0
// ONNX Runtime: on the graphics processor by WebGPU where the browser has it, else by WebAssembly.

import * as wasm from "./ort/ort.wasm.min.mjs";

import { UserError } from "./errors.js";

const FOLDER = new URL("./ort/", import.meta.url).href;
const NAMES = { webgpu: "WebGPU", wasm: "WebAssembly" };

/**
 * Make a file ready to run.
 *
 * @param {Uint8Array} file the bytes of the ONNX file
 * @returns {Promise<{run: function, outputNames: string[], engine: function, close: function}>} `run(data, shape)`
 *   returns the outputs by name, `engine()` says in words what runs the file
 * @throws {UserError} the file cannot be run
 */
export async function openEngine(file) {
  // Kept as long as WebAssembly may have to take the place of WebGPU.
  let bytes = file;
  let fallen = "";
  let engine = await start();

  async function start() {
    if (!(await hasGraphics())) {
      return withoutGraphics();
    }
    try {
      // Large, and of no use to other browsers.
      return await create(await import("./ort/ort.webgpu.min.mjs"), "webgpu", bytes);
    } catch (error) {
      const other = await withoutGraphics();
      noteFailure(error);
      return other;
    }
  }

  async function withoutGraphics() {
    try {
      return await create(wasm, "wasm", bytes);
    } catch (error) {
      throw new UserError(`ONNX Runtime must be able to open the file, but says: ${words(error)}; export it again.`);
    }
  }

  function noteFailure(error) {
    fallen = `, since WebGPU failed (${words(error).split("\n")[0].slice(0, 120)})`;
    bytes = null;
  }

  async function run(data, shape) {
    try {
      return await engine.run(data, shape);
    } catch (error) {
      if (engine.provider === "wasm") {
        throw cannotRun(error, shape);
      }
      return runWithoutGraphics(error, data, shape);
    }
  }

  /** WebAssembly in place of WebGPU from now on, if it can run what that could not. */
  async function runWithoutGraphics(failure, data, shape) {
    const other = await withoutGraphics();
    try {
      const outputs = await other.run(data, shape);
      await close();
      engine = other;
      noteFailure(failure);
      return outputs;
    } catch (error) {
      await other.session.release().catch(() => {});
      throw cannotRun(error, shape);
    }
  }

  /** Release the session; one that cannot be is of no more use either. */
  const close = () => engine.session.release().catch((error) => console.error(error));

  if (engine.provider === "wasm") {
    bytes = null;
  }

  return {
    run,
    outputNames: engine.session.outputNames,
    engine: () => `${NAMES[engine.provider]}${fallen}`,
    close,
  };
}

async function hasGraphics() {
  try {
    return Boolean(await navigator.gpu?.requestAdapter());
  } catch {
    return false;
  }
}

async function create(ort, provider, bytes) {
  ort.env.wasm.wasmPaths = FOLDER;
  // More threads need memory that is shared, which browsers allow only with headers that a plain server does
  // not send.
  ort.env.wasm.numThreads = 1;
  ort.env.logLevel = "error";
  const session = await ort.InferenceSession.create(bytes, { executionProviders: [provider], logSeverityLevel: 3 });
  const [input] = session.inputNames;
  const run = (data, shape) => session.run({ [input]: new ort.Tensor("float32", data, shape) });
  return { provider, session, run };
}

function cannotRun(error, [batch, , height, width]) {
  return new UserError(
    `ONNX Runtime must be able to run ${batch} x ${height} x ${width} pixels, but says: ${words(error)}; ` +
      "take an image of another size, or export the file again.",
  );
}

function words(error) {
  return String(error.message ?? error);
}
