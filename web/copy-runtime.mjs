// SPDX-License-Identifier: Apache-2.0
// Copies the part of ONNX Runtime that the page needs next to the page: its plain WebAssembly backend, and that with
// WebGPU, which only browsers that have it load.

import { copyFile, mkdir } from "node:fs/promises";

const WASM = "ort-wasm-simd-threaded";
const FILES = [
  "ort.wasm.min.mjs",
  `${WASM}.mjs`,
  `${WASM}.wasm`,
  "ort.webgpu.min.mjs",
  `${WASM}.asyncify.mjs`,
  `${WASM}.asyncify.wasm`,
];

const from = new URL("node_modules/onnxruntime-web/dist/", import.meta.url);
const to = new URL("ort/", import.meta.url);

await mkdir(to, { recursive: true });
await Promise.all(FILES.map((file) => copyFile(new URL(file, from), new URL(file, to))));
console.log(`copied into web/ort: ${FILES.join(", ")}`);
