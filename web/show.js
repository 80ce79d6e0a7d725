// SPDX-License-Identifier: Apache-2.0
// Showing things on the page; nothing here computes.

import { css } from "./colours.js";

const element = (id) => document.getElementById(id);

/** Show what the page is doing or has done, to screen readers, too. */
export function showStatus(words) {
  element("status").textContent = words;
}

/** Show what went wrong; an empty text hides it. */
export function showProblem(words) {
  element("problem").textContent = words;
  element("problem").hidden = words === "";
}

/** Show an image, and free the one before. */
export function showImage(file) {
  const image = element("image");
  URL.revokeObjectURL(image.src);
  image.src = URL.createObjectURL(file);
  image.alt = `The chosen image, ${file.name}`;
  showDrawing(null);
  element("image-invitation").replaceChildren("Choose or drop another");
}

/** Show a drawing in place of the image, by a function that draws on a canvas; null for the image alone. */
export function showDrawing(draw) {
  const [image, canvas] = [element("image"), element("drawing")];
  canvas.hidden = draw === null;
  image.hidden = draw !== null || !image.hasAttribute("src");
  if (draw !== null) {
    draw(canvas);
    canvas.setAttribute("aria-label", `${image.alt}, with what the model sees drawn on it`);
  }
}

/** Show the facts of a model, and what runs it. */
export function showFacts(facts, engine) {
  const classes = facts.classNames.length;
  const rows = [
    ["Architecture", facts.architecture],
    ["Precision", facts.precision],
    ["Task", facts.task],
    ["Input size", sizeOf(facts)],
    ["Classes", classes === 0 ? "without names" : String(classes)],
    ["Exported by", `slideformer ${facts.exporter}`],
    ["Runs on", engine],
  ];
  const pairs = rows.map(([term, words]) => group(made("dt", term), made("dd", words)));
  element("facts").replaceChildren(...pairs);
  element("facts").hidden = false;
  element("model-invitation").textContent = "Choose another model";
}

function sizeOf({ height, width }) {
  const any = (side) => side ?? "any";
  return height === null && width === null ? "any" : `${any(width)} x ${any(height)} pixels`;
}

/** Show names as bars, in the order given; one with a colour has it. */
export function showRows(rows) {
  element("classes").replaceChildren(
    ...rows.map(({ name, probability, colour }) => {
      const percent = `${(100 * probability).toFixed(1)} %`;
      const share = made("data", percent);
      share.value = String(probability);
      const words = group(made("span", name, "name"), share);
      words.className = "words";
      const bar = made("div", "", "bar");
      bar.style.setProperty("--share", `${100 * probability}%`);
      // A background is black, and has no colour on the image.
      if (colour?.some((channel) => channel > 0)) {
        bar.style.setProperty("--bar", css(colour));
      }
      const track = group(bar);
      track.className = "track";
      track.setAttribute("aria-hidden", "true");
      const row = document.createElement("li");
      row.append(words, track);
      return row;
    }),
  );
}

/** An element with words in it. */
export function made(tag, words, className = "") {
  const node = document.createElement(tag);
  node.textContent = words;
  node.className = className;
  return node;
}

/** Elements side by side in one. */
export function group(...children) {
  const node = document.createElement("div");
  node.append(...children);
  return node;
}
