// SPDX-License-Identifier: Apache-2.0
// ONNX Runtime: on the graphics processor by WebGPU where the browser has it, else by WebAssembly.

import * as wasm from "./ort/ort.wasm.min.mjs";

import { UserError } from "./errors.js";

const FOLDER = new URL("./ort/", import.meta.url).href;
const NAMES = { webgpu: "WebGPU", wasm: "WebAssembly" };

/**
 * Make a file ready to run.
 *
 * @param {Uint8Array} bytes of the ONNX file
 * @returns {Promise<{run: function, outputNames: string[], engine: function, close: function}>} `run(data, shape)`
 *   returns the outputs by name, `engine()` says in words what runs the file
 * @throws {UserError} the file cannot be run
 */
export async function openEngine(bytes) {
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
      return withoutGraphics(error);
    }
  }

  /** WebAssembly; where WebGPU has failed, in its place. */
  async function withoutGraphics(failure) {
    if (failure !== undefined) {
      fallen = `, since WebGPU cannot run this file (${words(failure).split("\n")[0].slice(0, 120)})`;
    }
    try {
      return await create(wasm, "wasm", bytes);
    } catch (error) {
      throw cannotRun(error);
    }
  }

  async function run(data, shape) {
    try {
      return await engine.run(data, shape);
    } catch (error) {
      if (engine.provider === "wasm") {
        throw cannotRun(error);
      }
      await engine.session.release().catch(() => {});
      engine = await withoutGraphics(error);
      return run(data, shape);
    }
  }

  return {
    run,
    outputNames: engine.session.outputNames,
    engine: () => `${NAMES[engine.provider]}${fallen}`,
    close: () => engine.session.release(),
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

function cannotRun(error) {
  return new UserError(`ONNX Runtime must be able to run the file, but says: ${words(error)}; export it again.`);
}

function words(error) {
  return String(error.message ?? error);
}
