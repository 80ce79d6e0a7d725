// SPDX-License-Identifier: Apache-2.0
// The page: takes a model and images, and shows what the model sees in them.

import { UserError } from "./errors.js";
import { onChosen, onDropped } from "./files.js";
import { readImage } from "./image.js";
import { inspect, offerInside } from "./inside.js";
import { showDrawing, showFacts, showImage, showProblem, showRows, showStatus } from "./show.js";

const DEFAULT_MODEL = "model.onnx";
const ENDING = ".onnx";
const WITHOUT_MODEL = "Choose a model, below, or drop one anywhere.";

let model = null;
let image = null;
let imageName = "";
// Ends the download of the default model, once another one is chosen.
const download = new AbortController();
// One thing after another, in the order in which it was asked for.
let work = Promise.resolve();

const takeModel = (file) => {
  download.abort();
  inTurn(() => useModel(file.name, () => file.arrayBuffer()));
};
const takeImage = (file) => inTurn(() => useImage(file));

onChosen("model-file", takeModel);
onChosen("image-file", takeImage);
onDropped((file) => (file.name.toLowerCase().endsWith(ENDING) ? takeModel(file) : takeImage(file)));
inTurn(useDefaultModel);

/** Do something after everything before it; show a mistake of the user, and throw any other, which is a bug. */
function inTurn(doing) {
  work = work.then(doing).catch((error) => {
    showStatus("");
    if (!(error instanceof UserError)) {
      showProblem("The page has a bug; its console says more.");
      throw error;
    }
    showProblem(error.message);
  });
  work = work.then(undefined, (error) => console.error(error));
}

/** The module that opens models; it needs ONNX Runtime, which is not part of the page. */
async function runtime() {
  try {
    return await import("./model.js");
  } catch (error) {
    console.error(error);
    throw new UserError(
      "The page needs ONNX Runtime in the folder ort/ next to it, which cannot be loaded; put it there " +
        "with make web, and load the page again.",
    );
  }
}

async function useDefaultModel() {
  await runtime();
  const response = await fetch(DEFAULT_MODEL, { signal: download.signal }).catch(() => null);
  if (response === null || !response.ok) {
    showStatus(WITHOUT_MODEL);
    return;
  }
  await useModel(DEFAULT_MODEL, () => response.arrayBuffer());
}

async function useModel(name, read) {
  showProblem("");
  showStatus(`Loading ${name}…`);
  const { openModel } = await runtime();
  const opened = await openModel(await contentOf(name, read), name);
  const before = model;
  model = opened;
  await before?.close();
  showFacts(model.facts, model.engine());
  offerInside(model.facts);
  showRows([]);
  showDrawing(null);
  showStatus("Choose an image.");
  if (image !== null) {
    await look();
  }
}

async function contentOf(name, read) {
  try {
    return new Uint8Array(await read());
  } catch (error) {
    console.error(error);
    throw new UserError(`${name} must be a file that can be read to its end, but: ${error.message}; choose it again.`);
  }
}

async function useImage(file) {
  showProblem("");
  showStatus("Reading the image…");
  // One that cannot be read leaves the one before, and what was found in it.
  image = await readImage(file);
  imageName = file.name;
  showImage(file);
  inspect(null);
  showRows([]);
  if (model === null) {
    showStatus(WITHOUT_MODEL);
    return;
  }
  await look();
}

async function look() {
  showStatus("Looking…");
  await painted();
  const start = performance.now();
  const { rows, draw, inside } = await fitting(() => model.look(image, imageName));
  const took = performance.now() - start;
  // WebAssembly may have taken the place of WebGPU.
  showFacts(model.facts, model.engine());
  showRows(rows);
  await fitting(() => showDrawing(draw === undefined ? null : (canvas) => draw(canvas, image)));
  inspect(inside ?? null);
  const time = took < 1000 ? `${Math.round(took)} ms` : `${(took / 1000).toFixed(1)} s`;
  showStatus(`Done in ${time}.${rows.length === 0 ? " Nothing found." : ""}`);
}

/** Do what takes memory by the size of the image. */
async function fitting(doing) {
  try {
    return await doing();
  } catch (error) {
    if (error instanceof RangeError) {
      console.error(error);
      throw new UserError(`${imageName} must fit into this browser's memory, but: ${error.message}; take a smaller image.`);
    }
    throw error;
  }
}

/** Wait until the browser has shown the last change: while it computes it shows nothing new. */
function painted() {
  return new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
}
