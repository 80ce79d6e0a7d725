// SPDX-License-Identifier: Apache-2.0
// The panels next to the image: the layers to choose from, and the weights of each head.

import { grid, squares } from "./grids.js";
import { group, made } from "./show.js";

const element = (id) => document.getElementById(id);

/** List the layers of a model, the first one chosen. */
export function listLayers(layers) {
  const rows = layers.map(({ stage, block, kernelSize, dilation, stride, heads, shift }, number) => {
    const choice = document.createElement("input");
    choice.type = "radio";
    choice.name = "layer";
    choice.value = String(number);
    choice.checked = number === 0;
    const where = stage === null ? "" : `: stage ${stage}, block ${block}`;
    const sparse = String(dilation) === "1,1" ? "" : `, every ${dilation.join(" x ")}`;
    const facts = `${kernelSize.join(" x ")}${sparse}, a position every ${stride} px, ${heads} ${heads === 1 ? "head" : "heads"}`;
    const words = group(
      made("strong", `Layer ${number + 1}${where}`),
      made("span", `${facts}${shift === null ? "" : ", deformed"}`, "quiet"),
      made("span", "", "sees quiet"),
    );
    const picture = made("span", "", "small");
    const label = document.createElement("label");
    label.append(choice, picture, words);
    return label;
  });
  element("layers").replaceChildren(made("legend", "Layer"), ...rows);
}

/** Show for each layer the mean of its weights at the position, and how far it sees. */
export function drawLayers(rows) {
  const labels = element("layers").querySelectorAll("label");
  rows.forEach(({ layer, mean, reach }, number) => {
    const { top, left, bottom, right } = reach.at(-1);
    labels[number].querySelector(".sees").textContent = `sees ${right - left} x ${bottom - top} px`;
    const strongest = Math.max(...mean);
    const shares = mean.map((weight) => weight / strongest);
    labels[number].querySelector(".small").replaceChildren(squares(shares, layer.kernelSize[1]));
  });
}

/** Show the weights of each head over the window; the taps outside the map are marked. */
export function drawHeads(layer, heads, taps) {
  const strongest = Math.max(...heads.map((weights) => Math.max(...weights)));
  element("heads").replaceChildren(
    ...heads.map((weights, head) => {
      const cells = Array.from(weights, (weight, tap) => ({
        value: weight,
        share: strongest === 0 ? 0 : weight / strongest,
        outside: !taps[tap].inside,
      }));
      const figure = document.createElement("figure");
      figure.append(grid(cells, layer.kernelSize[1], `Head ${head + 1}`), made("figcaption", `Head ${head + 1}`));
      return figure;
    }),
  );
}
