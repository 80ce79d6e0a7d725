// SPDX-License-Identifier: Apache-2.0
// Copies the part of ONNX Runtime that the page needs, its plain WebAssembly backend, next to the page.

import { copyFile, mkdir } from "node:fs/promises";

const FILES = ["ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"];

const from = new URL("node_modules/onnxruntime-web/dist/", import.meta.url);
const to = new URL("ort/", import.meta.url);

await mkdir(to, { recursive: true });
await Promise.all(FILES.map((file) => copyFile(new URL(file, from), new URL(file, to))));
console.log(`copied into web/ort: ${FILES.join(", ")}`);
