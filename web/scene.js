// SPDX-License-Identifier: Apache-2.0
// The image as the model sees it, with a position, its window, and what it sees of the image drawn on it.

// Of the longer side of the drawing, about two a pixel of the page.
const LONGEST = 960;
const HEAT = "240 140 20";
const DIM = "rgb(0 0 0 / 45%)";
// A side of the smallest frame, on the drawing.
const SMALLEST = 10;
const LIGHT = "#ffffff";
const DARK = "#10201c";

/**
 * @param {HTMLCanvasElement} canvas
 * @param {ImageData} image
 * @param {{layer: object, cell: object, taps: object[], mean: number[], reach: object[]}} shown of the position:
 *   its window, the mean weights of its taps, and the nested parts of the image that it sees
 */
export function drawScene(canvas, image, { layer, cell, taps, mean, reach }) {
  const { width, height } = image;
  const exact = LONGEST / Math.max(width, height);
  const scale = exact > 2 ? Math.floor(exact) : exact;
  [canvas.width, canvas.height] = [Math.round(width * scale), Math.round(height * scale)];
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = scale < 2;
  context.drawImage(bitmapOf(image), 0, 0, canvas.width, canvas.height);

  const box = ({ top, left, bottom, right }) => [left, top, right - left, bottom - top].map((x) => x * scale);
  const square = ({ row, column }) => [column, row, 1, 1].map((x) => x * layer.stride * scale);

  dimOutside(context, box(reach.at(-1)));
  const strongest = Math.max(...mean);
  taps.forEach((tap, number) => {
    if (tap.inside && strongest > 0) {
      context.fillStyle = `rgb(${HEAT} / ${(75 * mean[number]) / strongest}%)`;
      context.fillRect(...square(tap));
    }
  });
  // The window itself is the first.
  reach.forEach((part, number) => outline(context, box(part), number === 0 ? [] : [10, 8]));
  outline(context, square(cell), [], 6);
}

function bitmapOf(image) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [image.width, image.height];
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

function dimOutside(context, part) {
  context.fillStyle = DIM;
  context.beginPath();
  context.rect(0, 0, context.canvas.width, context.canvas.height);
  context.rect(...part);
  context.fill("evenodd");
}

/** A light line on a dark one, to be seen on any image. */
function outline(context, box, dashes, thickness = 3) {
  const inner = frameOf(box, thickness + 2);
  context.setLineDash([]);
  context.strokeStyle = DARK;
  context.lineWidth = thickness + 2;
  context.strokeRect(...inner);
  context.setLineDash(dashes);
  context.strokeStyle = LIGHT;
  context.lineWidth = thickness;
  context.strokeRect(...inner);
}

/** The frame of a box: inside it, to be seen at the edge of the image, too; around one that has no room for it. */
export function frameOf([left, top, width, height], thickness) {
  const [wide, high] = [width, height].map((length) => Math.max(SMALLEST, length - thickness));
  return [left + (width - wide) / 2, top + (height - high) / 2, wide, high];
}
