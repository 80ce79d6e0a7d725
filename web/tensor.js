// SPDX-License-Identifier: Apache-2.0
// From pixels to a model's input.

import { cropOf } from "./crop.js";
import { resample } from "./resample.js";

/**
 * Resize, crop and normalise an image: the input of a model, channel by channel.
 *
 * @param {ImageData} image
 * @param {object} facts of the model
 * @returns {Float32Array} of shape (3, height, width)
 */
export function toTensor(image, facts) {
  const { size, window, place } = cropOf(image, facts);
  const pixels = resample(image, size, window, facts.interpolation);
  const area = facts.height * facts.width;
  const tensor = new Float32Array(3 * area);
  for (let channel = 0; channel < 3; channel++) {
    // In 32 bits at every step, as PyTorch computes it.
    const mean = Math.fround(facts.mean[channel]);
    const std = Math.fround(facts.std[channel]);
    const normalised = (x) => Math.fround(Math.fround(Math.fround(x / 255) - mean) / std);
    // The colour of a border around an image that is too small.
    const outside = facts.cropMode === "border" ? Math.round(255 * facts.mean[channel]) : 0;
    tensor.fill(normalised(outside), channel * area, (channel + 1) * area);
    for (let row = 0; row < window.height; row++) {
      const start = channel * area + (place.top + row) * facts.width + place.left;
      for (let column = 0; column < window.width; column++) {
        tensor[start + column] = normalised(pixels[(row * window.width + column) * 3 + channel]);
      }
    }
  }
  return tensor;
}

/**
 * The image that an input shows, its normalisation undone where it has one.
 *
 * @param {Float32Array} tensor of shape (3, height, width)
 * @param {{height: number, width: number}} size
 * @param {object} facts of the model
 * @returns {ImageData}
 */
export function toImage(tensor, { height, width }, facts) {
  const area = height * width;
  const image = new ImageData(width, height);
  image.data.fill(255);
  for (let channel = 0; channel < 3; channel++) {
    const [mean, std] = facts.mean ? [facts.mean[channel], facts.std[channel]] : [0, 1];
    for (let pixel = 0; pixel < area; pixel++) {
      image.data[4 * pixel + channel] = 255 * (tensor[channel * area + pixel] * std + mean);
    }
  }
  return image;
}

/**
 * The pixels of an image from 0 to 1, channel by channel.
 *
 * @param {ImageData} image
 * @returns {Float32Array} of shape (3, height, width)
 */
export function fullSizeTensor({ data, width, height }) {
  const area = width * height;
  const tensor = new Float32Array(3 * area);
  for (let channel = 0; channel < 3; channel++) {
    for (let pixel = 0; pixel < area; pixel++) {
      tensor[channel * area + pixel] = data[4 * pixel + channel] / 255;
    }
  }
  return tensor;
}
