// SPDX-License-Identifier: Apache-2.0
// An image file as pixels.

import { UserError } from "./errors.js";

/**
 * Read the pixels of an image, upright, without changes of colour.
 *
 * @param {File} file of any kind that the browser shows
 * @returns {Promise<ImageData>} eight bits each of red, green, blue and opacity
 * @throws {UserError} the browser cannot read it
 */
export async function readImage(file) {
  const bitmap = await decoded(file);
  const canvas = document.createElement("canvas");
  canvas.width = bitmap.width;
  canvas.height = bitmap.height;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  if (context === null) {
    throw tooLarge(bitmap);
  }
  context.drawImage(bitmap, 0, 0);
  try {
    return context.getImageData(0, 0, bitmap.width, bitmap.height);
  } catch {
    throw tooLarge(bitmap);
  } finally {
    bitmap.close();
  }
}

async function decoded(file) {
  try {
    return await createImageBitmap(file, {
      // The pixels of the file, which the model saw in training: no profile is applied.
      colorSpaceConversion: "none",
      imageOrientation: "from-image",
      premultiplyAlpha: "none",
    });
  } catch {
    throw new UserError(
      `${file.name} must be a complete image of a kind that this browser reads; choose another.`,
    );
  }
}

function tooLarge(bitmap) {
  return new UserError(
    `The image must fit into this browser's memory, but has ${bitmap.width} x ${bitmap.height} pixels; ` +
      "choose a smaller one.",
  );
}
