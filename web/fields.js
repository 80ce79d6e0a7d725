// SPDX-License-Identifier: Apache-2.0
// The requirements of values in a file: a test, and the words for it.

const MAX_CLASSES = 1_000_000;
const MAX_TEXT = 10_000;

/** A finite number from low to high. */
export function number(low, high) {
  return {
    must: `a number from ${low} to ${high}`,
    accepts: (x) => typeof x === "number" && low <= x && x <= high,
  };
}

/** An integer from low to high. */
export function integer(low, high) {
  return {
    must: `an integer from ${low} to ${high}`,
    accepts: (x) => Number.isInteger(x) && low <= x && x <= high,
  };
}

/** One of some words. */
export function word(...known) {
  return { must: `one of ${known.join(", ")}`, accepts: (x) => known.includes(x) };
}

/** A list of values of one kind. */
export function list(each, least = 0, most = MAX_CLASSES) {
  return {
    must: `a list of ${least === most ? most : `${least} to ${most}`} values, each ${each.must}`,
    accepts: (x) => Array.isArray(x) && least <= x.length && x.length <= most && x.every(each.accepts),
  };
}

/** A value that may be null. */
export function optional(field) {
  return { must: `${field.must}, or null`, accepts: (x) => x === null || field.accepts(x) };
}

export const TEXT = {
  must: `text of at most ${MAX_TEXT} characters`,
  accepts: (x) => typeof x === "string" && x.length <= MAX_TEXT,
};
export const NAMES = list(TEXT);
