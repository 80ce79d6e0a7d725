// SPDX-License-Identifier: Apache-2.0
// The page: a model, pictures, and what one sees in the other.

import { UserError } from "./errors.js";
import { onChosen, onDropped } from "./files.js";
import { readPicture } from "./picture.js";
import { showClasses, showFacts, showPicture, showProblem, showStatus } from "./show.js";

const BESIDE = "model.onnx";
const ENDING = ".onnx";
const TOP = 5;
const WITHOUT_MODEL = "Choose a model, below, or drop one anywhere.";

let model = null;
let picture = null;
let pictureName = "";
// One thing after another, in the order in which it was asked for.
let work = Promise.resolve();

const takeModel = (file) => inTurn(() => useModel(file.name, () => file.arrayBuffer()));
const takePicture = (file) => inTurn(() => usePicture(file));

onChosen("model-file", takeModel);
onChosen("picture-file", takePicture);
onDropped((file) => (file.name.toLowerCase().endsWith(ENDING) ? takeModel(file) : takePicture(file)));
inTurn(useModelBeside);

/** Do something after all that came before; a mistake of the person is told, any other is ours and thrown. */
function inTurn(doing) {
  work = work.then(doing).catch((error) => {
    showStatus("");
    if (!(error instanceof UserError)) {
      showProblem("The page has a mistake; its console tells more.");
      throw error;
    }
    showProblem(error.message);
  });
  work = work.then(undefined, (error) => console.error(error));
}

/** What opens models; it needs ONNX Runtime, which is not part of the page. */
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

async function useModelBeside() {
  await runtime();
  const response = await fetch(BESIDE).catch(() => null);
  if (response === null || !response.ok) {
    showStatus(WITHOUT_MODEL);
    return;
  }
  await useModel(BESIDE, () => response.arrayBuffer());
}

async function useModel(name, read) {
  showProblem("");
  showStatus(`Loading ${name}…`);
  const { openModel } = await runtime();
  const opened = await openModel(new Uint8Array(await read()), name);
  await model?.close();
  model = opened;
  showFacts(model.facts);
  showClasses([]);
  showStatus("Choose a picture.");
  if (picture !== null) {
    await classify();
  }
}

async function usePicture(file) {
  showProblem("");
  showStatus("Reading the picture…");
  // One that cannot be read leaves the one before, and what was seen in it.
  picture = await readPicture(file);
  pictureName = file.name;
  showPicture(file);
  showClasses([]);
  if (model === null) {
    showStatus(WITHOUT_MODEL);
    return;
  }
  await classify();
}

async function classify() {
  showStatus("Looking…");
  await painted();
  const start = performance.now();
  const classes = await model.classify(picture, TOP, pictureName);
  const took = performance.now() - start;
  showClasses(classes);
  showStatus(`Answered in ${took < 1000 ? `${Math.round(took)} ms` : `${(took / 1000).toFixed(1)} s`}.`);
}

/** After the browser has shown what was last changed: while it computes it shows nothing new. */
function painted() {
  return new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
}
