// SPDX-License-Identifier: Apache-2.0
// Showing things on the page; nothing here computes.

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
  image.hidden = false;
  element("image-invitation").replaceChildren("Choose or drop another");
}

/** Show the facts of a model. */
export function showFacts(facts) {
  const classes = facts.classNames.length;
  const rows = [
    ["Architecture", facts.architecture],
    ["Precision", facts.precision],
    ["Input size", `${facts.width} x ${facts.height} pixels`],
    ["Classes", classes === 0 ? "without names" : String(classes)],
    ["Exported by", `slideformer ${facts.exporter}`],
  ];
  const pairs = rows.map(([term, words]) => group(made("dt", term), made("dd", words)));
  element("facts").replaceChildren(...pairs);
  element("facts").hidden = false;
  element("model-invitation").textContent = "Choose another model";
}

/** Show classes as bars, the likeliest first. */
export function showClasses(classes) {
  element("classes").replaceChildren(
    ...classes.map(({ name, probability }) => {
      const percent = `${(100 * probability).toFixed(1)} %`;
      const share = made("data", percent);
      share.value = String(probability);
      const words = group(made("span", name, "name"), share);
      words.className = "words";
      const bar = made("div", "", "bar");
      bar.style.setProperty("--share", `${100 * probability}%`);
      const track = group(bar);
      track.className = "track";
      track.setAttribute("aria-hidden", "true");
      const row = document.createElement("li");
      row.append(words, track);
      return row;
    }),
  );
}

function made(tag, words, className = "") {
  const node = document.createElement(tag);
  node.textContent = words;
  node.className = className;
  return node;
}

function group(...children) {
  const node = document.createElement("div");
  node.append(...children);
  return node;
}
