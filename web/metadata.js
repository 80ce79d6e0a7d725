// SPDX-License-Identifier: Apache-2.0
// The metadata of an ONNX file, read from its bytes: a protobuf message whose weights are skipped over.

import { UserError } from "./errors.js";

// Of protobuf's wire types those that ONNX has.
const VARINT = 0;
const EIGHT_BYTES = 1;
const LENGTH = 2;
const FOUR_BYTES = 5;

// ModelProto.metadata_props, a list of StringStringEntryProto, and two fields that every ModelProto has.
const IR_VERSION = 1;
const GRAPH = 7;
const METADATA_PROPS = 14;
const KEY = 1;
const VALUE = 2;

/**
 * Return the metadata of an ONNX file, by key.
 *
 * @param {Uint8Array} bytes of the file
 * @returns {Map<string, string>}
 * @throws {UserError} they are not a complete ONNX file
 */
export function readMetadata(bytes) {
  const metadata = new Map();
  const seen = new Set();
  for (const [field, content] of fields(bytes)) {
    seen.add(field);
    if (field === METADATA_PROPS && content) {
      const entry = new Map(fields(content));
      metadata.set(text(entry.get(KEY)), text(entry.get(VALUE)));
    }
  }
  if (!seen.has(IR_VERSION) || !seen.has(GRAPH)) {
    throw notOnnx();
  }
  return metadata;
}

/** Number and content of each field of a message; null in place of numbers, which are not needed here. */
function* fields(bytes) {
  let place = 0;
  const varint = () => {
    // Not by bits, which JavaScript has 32 of: a length may be longer.
    let value = 0;
    for (let scale = 1; scale < 2 ** 70; scale *= 128) {
      if (place >= bytes.length) {
        throw notOnnx();
      }
      const byte = bytes[place++];
      value += (byte & 127) * scale;
      if (byte < 128) {
        return value;
      }
    }
    throw notOnnx();
  };
  while (place < bytes.length) {
    const tag = varint();
    const [field, type] = [Math.floor(tag / 8), tag % 8];
    if (type === VARINT) {
      varint();
      yield [field, null];
      continue;
    }
    const length = { [EIGHT_BYTES]: () => 8, [LENGTH]: varint, [FOUR_BYTES]: () => 4 }[type]?.();
    if (length === undefined || place + length > bytes.length) {
      throw notOnnx();
    }
    yield [field, bytes.subarray(place, place + length)];
    place += length;
  }
}

function text(content) {
  return content ? new TextDecoder().decode(content) : "";
}

function notOnnx() {
  return new UserError(
    "The model must be a complete ONNX file, but this one is another kind or cut short; choose it again.",
  );
}
