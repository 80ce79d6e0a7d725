// SPDX-License-Identifier: Apache-2.0
// What a fact of a file may be: a test, and the words for it.

const MOST = 1_000_000;
const LONGEST_TEXT = 10_000;

/** A finite number between two bounds, both included. */
export function number(low, high) {
  return {
    must: `a number from ${low} to ${high}`,
    holds: (x) => typeof x === "number" && low <= x && x <= high,
  };
}

/** A whole number between two bounds, both included. */
export function integer(low, high) {
  return {
    must: `a whole number from ${low} to ${high}`,
    holds: (x) => Number.isInteger(x) && low <= x && x <= high,
  };
}

/** One of some words. */
export function word(...known) {
  return { must: `one of ${known.join(", ")}`, holds: (x) => known.includes(x) };
}

/** A list of values of one kind. */
export function list(each, least = 0, most = MOST) {
  return {
    must: `a list of ${least === most ? most : `${least} to ${most}`} values, each ${each.must}`,
    holds: (x) => Array.isArray(x) && least <= x.length && x.length <= most && x.every(each.holds),
  };
}

/** A value that may be null. */
export function optional(field) {
  return { must: `${field.must}, or null`, holds: (x) => x === null || field.holds(x) };
}

export const TEXT = {
  must: `text of at most ${LONGEST_TEXT} characters`,
  holds: (x) => typeof x === "string" && x.length <= LONGEST_TEXT,
};
export const NAMES = list(TEXT);
