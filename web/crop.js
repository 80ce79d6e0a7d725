// SPDX-License-Identifier: Apache-2.0
// Which part of which resized picture a classifier sees: timm's crops.

import { UserError } from "./errors.js";

const RESIZED = { center: shorterSide, squash: (picture, target) => target, border: longerSide };

/**
 * The size to resize a picture to, the window of it that is seen, and where the window lies in the input.
 *
 * @param {{height: number, width: number}} picture
 * @param {object} facts of the model
 * @throws {UserError} the crop is not known
 */
export function cropOf(picture, facts) {
  const resized = RESIZED[facts.cropMode];
  if (resized === undefined) {
    throw new UserError(`The file's crop_mode is not known here: ${facts.cropMode}; export it again.`);
  }
  const target = {
    height: Math.floor(facts.height / facts.cropShare),
    width: Math.floor(facts.width / facts.cropShare),
  };
  const size = resized(picture, target);
  const rows = middle(size.height, facts.height);
  const columns = middle(size.width, facts.width);
  return {
    size,
    window: { top: rows.from, left: columns.from, height: rows.count, width: columns.count },
    place: { top: rows.to, left: columns.to },
  };
}

/** A square target is reached by the shorter side; any other is covered, its sides rounded. */
function shorterSide(picture, target) {
  if (target.height === target.width) {
    const short = Math.min(picture.height, picture.width);
    const long = (length) => Math.trunc((target.height * length) / short);
    const side = (length) => (length === short ? target.height : long(length));
    return { height: side(picture.height), width: side(picture.width) };
  }
  return divided(picture, Math.min(picture.height / target.height, picture.width / target.width));
}

/** A thin picture keeps a pixel. */
function longerSide(picture, target) {
  const size = divided(picture, Math.max(picture.height / target.height, picture.width / target.width));
  return { height: Math.max(1, size.height), width: Math.max(1, size.width) };
}

function divided(picture, ratio) {
  return { height: evenRound(picture.height / ratio), width: evenRound(picture.width / ratio) };
}

/** Of one axis: where the window begins, how long it is, and where it begins in an input that is longer. */
function middle(length, wanted) {
  const missing = Math.max(wanted - length, 0);
  return {
    from: evenRound(Math.max(length - wanted, 0) / 2),
    count: Math.min(length, wanted),
    to: Math.floor(missing / 2),
  };
}

/** The nearest whole number, halves to the even one, as Python rounds. */
function evenRound(x) {
  const down = Math.floor(x);
  const odd = down % 2 === 1 ? 1 : 0;
  return x - down === 0.5 ? down + odd : Math.round(x);
}
