// SPDX-License-Identifier: Apache-2.0
// Puts what the page needs of ONNX Runtime beside it: the plain WebAssembly backend, nothing else.

import { copyFile, mkdir } from "node:fs/promises";

const FILES = ["ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"];

const from = new URL("node_modules/onnxruntime-web/dist/", import.meta.url);
const to = new URL("ort/", import.meta.url);

await mkdir(to, { recursive: true });
await Promise.all(FILES.map((file) => copyFile(new URL(file, from), new URL(file, to))));
console.log(`copied into web/ort: ${FILES.join(", ")}`);
