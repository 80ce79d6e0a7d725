// SPDX-License-Identifier: Apache-2.0
// The part of a resized image that a classifier sees: timm's crops.

const RESIZED = { center: shorterSide, squash: (image, target) => target, border: longerSide };

/**
 * The size to resize an image to, the window of it that is seen, and the place of the window in the input.
 *
 * @param {{height: number, width: number}} image
 * @param {object} facts of the model
 */
export function cropOf(image, facts) {
  const target = {
    height: Math.floor(facts.height / facts.cropPct),
    width: Math.floor(facts.width / facts.cropPct),
  };
  const size = RESIZED[facts.cropMode](image, target);
  const rows = middle(size.height, facts.height);
  const columns = middle(size.width, facts.width);
  return {
    size,
    window: { top: rows.from, left: columns.from, height: rows.count, width: columns.count },
    place: { top: rows.to, left: columns.to },
  };
}

/** The size that covers the target; for a square one the longer side is truncated, else both are rounded. */
function shorterSide(image, target) {
  if (target.height === target.width) {
    const short = Math.min(image.height, image.width);
    const long = (length) => Math.trunc((target.height * length) / short);
    const side = (length) => (length === short ? target.height : long(length));
    return { height: side(image.height), width: side(image.width) };
  }
  return divided(image, Math.min(image.height / target.height, image.width / target.width));
}

/** The size that fits into the target, at least one pixel. */
function longerSide(image, target) {
  const size = divided(image, Math.max(image.height / target.height, image.width / target.width));
  return { height: Math.max(1, size.height), width: Math.max(1, size.width) };
}

function divided(image, ratio) {
  return { height: evenRound(image.height / ratio), width: evenRound(image.width / ratio) };
}

/** The start and length of the window on one axis, and its start in an input that is longer. */
function middle(length, wanted) {
  const missing = Math.max(wanted - length, 0);
  return {
    from: evenRound(Math.max(length - wanted, 0) / 2),
    count: Math.min(length, wanted),
    to: Math.floor(missing / 2),
  };
}

/** The nearest integer, halves to the even one, as Python rounds. */
function evenRound(x) {
  const down = Math.floor(x);
  const odd = down % 2 === 1 ? 1 : 0;
  return x - down === 0.5 ? down + odd : Math.round(x);
}
