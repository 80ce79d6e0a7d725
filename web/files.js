// SPDX-License-Identifier: Apache-2.0
// Files that are chosen or dropped.

/**
 * Call a function with each file that is chosen in an input.
 *
 * @param {string} id of the input
 * @param {function(File): void} use
 */
export function onChosen(id, use) {
  const input = document.getElementById(id);
  input.addEventListener("change", () => {
    const [file] = input.files;
    if (file !== undefined) {
      use(file);
    }
    // So that the same file can be chosen again.
    input.value = "";
  });
}

/**
 * Call a function with each file that is dropped anywhere on the page; the page is of class "over" before.
 *
 * @param {function(File): void} use
 */
export function onDropped(use) {
  const over = (event) => {
    // Else the browser would leave the page and show the file.
    event.preventDefault();
    document.body.classList.toggle("over", event.type === "dragover");
  };
  for (const kind of ["dragover", "dragleave", "drop"]) {
    window.addEventListener(kind, over);
  }
  window.addEventListener("drop", (event) => {
    const [file] = event.dataTransfer.files;
    if (file !== undefined) {
      use(file);
    }
  });
}
