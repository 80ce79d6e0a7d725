// SPDX-License-Identifier: Apache-2.0

/** A mistake of the user: what must hold, what came, what to do. */
export class UserError extends Error {}
