// SPDX-License-Identifier: Apache-2.0
// Drawing results on an image, as slideformer predict does.

import { colourOfObject, css } from "./colours.js";

const MASK_OPACITY = 0.45;
const CLASS_OPACITY = 0.55;
const INK = "#1f2933";
// A small image is enlarged, so that the words on it can be read; the limit is for long and thin ones.
const SMALLEST_SIDE = 480;
const LONGEST_SIDE = 3840;

/**
 * Draw objects on an image: masks, boxes, names and scores, the highest score on top.
 *
 * @param {HTMLCanvasElement} canvas
 * @param {ImageData} image
 * @param {object[]} objects of `objectsOf`
 */
export function drawObjects(canvas, image, objects) {
  const reversed = [...objects].reverse();
  const pixels = Float32Array.from(image.data);
  for (const { label, mask } of reversed) {
    if (mask !== null) {
      tint(pixels, image.width, mask, colourOfObject(label));
    }
  }
  const scale = show(canvas, pixels, image);
  const context = canvas.getContext("2d");
  const shorter = Math.min(canvas.width, canvas.height);
  // On the page the image is shown smaller than it is.
  const font = Math.max(11, Math.round(shorter / 26));
  context.font = `${font}px sans-serif`;
  context.textBaseline = "top";
  context.lineWidth = Math.max(2, Math.round(shorter / 240));
  for (const { name, label, score, box } of reversed) {
    const words = `${name} ${(100 * score).toFixed(0)} %`;
    frame(context, box.map((side) => side * scale), css(colourOfObject(label)), words, font);
  }
}

/**
 * Draw the class of every pixel over an image.
 *
 * @param {HTMLCanvasElement} canvas
 * @param {ImageData} image
 * @param {Uint32Array} labels of every pixel
 * @param {number[][]} colours of every class; a black one leaves the image unchanged
 */
export function drawClasses(canvas, image, labels, colours) {
  const { width, height } = image;
  const pixels = Float32Array.from(image.data);
  labels.forEach((label, pixel) => {
    const right = (pixel + 1) % width !== 0 && labels[pixel + 1] !== label;
    const below = pixel + width < width * height && labels[pixel + width] !== label;
    const colour = colours[label];
    if (colour.some((channel) => channel > 0)) {
      // At the edge of a class the colour is opaque: the image may have that very colour there.
      blend(pixels, 4 * pixel, colour, right || below ? 1 : CLASS_OPACITY);
    }
  });
  show(canvas, pixels, image);
}

/** Colour a mask, its outline stronger. */
function tint(pixels, imageWidth, { top, left, height, width, on }, colour) {
  const at = (row, column) => row >= 0 && column >= 0 && row < height && column < width && on[row * width + column];
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < width; column++) {
      if (at(row, column)) {
        const inner = at(row - 1, column) && at(row + 1, column) && at(row, column - 1) && at(row, column + 1);
        const place = 4 * ((top + row) * imageWidth + left + column);
        blend(pixels, place, colour, inner ? MASK_OPACITY : 1);
      }
    }
  }
}

function blend(pixels, place, colour, opacity) {
  for (let channel = 0; channel < 3; channel++) {
    pixels[place + channel] += opacity * (colour[channel] - pixels[place + channel]);
  }
}

/** Put pixels on a canvas, enlarged where they are few; returns how many times. */
function show(canvas, pixels, { width, height }) {
  const shorter = Math.min(width, height);
  const scale = Math.max(1, Math.min(SMALLEST_SIDE / shorter, LONGEST_SIDE / Math.max(width, height)));
  const drawn = document.createElement("canvas");
  [drawn.width, drawn.height] = [width, height];
  drawn.getContext("2d").putImageData(new ImageData(Uint8ClampedArray.from(pixels), width, height), 0, 0);
  [canvas.width, canvas.height] = [Math.round(width * scale), Math.round(height * scale)];
  canvas.getContext("2d").drawImage(drawn, 0, 0, canvas.width, canvas.height);
  return scale;
}

/** Draw a box and, on its upper edge, what is in it, moved so that it stays on the image. */
function frame(context, [left, top, right, bottom], colour, words, font) {
  context.strokeStyle = colour;
  context.fillStyle = colour;
  // A line lies on both sides of its place.
  const inset = context.lineWidth / 2;
  const across = Math.max(right - left - 2 * inset, 0);
  context.strokeRect(left + inset, top + inset, across, Math.max(bottom - top - 2 * inset, 0));
  const width = context.measureText(words).width + 8;
  const height = font + 5;
  const x = Math.min(Math.max(0, left), Math.max(0, context.canvas.width - width));
  const y = top >= height ? top - height : Math.max(0, top);
  context.fillRect(x, y, width, height);
  context.fillStyle = INK;
  context.fillText(words, x + 4, y + 3);
}
