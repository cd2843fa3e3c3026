import { JAVASCRIPT } from "./javascript.ts";
import type { Program } from "./program.ts";
import { PYTHON_ENDINGS } from "./python-endings.ts";
import { PYTHON_LIBRARY } from "./python-library.ts";
import { PYTHON_SYSTEM } from "./python-system.ts";
import { PYTHON_VALUES } from "./python-values.ts";
import { SHELL } from "./shell.ts";
import { TYPESCRIPT } from "./typescript.ts";

export const PYTHON: readonly Program[] = [...PYTHON_VALUES, ...PYTHON_ENDINGS, ...PYTHON_SYSTEM, ...PYTHON_LIBRARY];

/** Every program, in an order that matters: some look at what the one before left in the workspace. */
export const PROGRAMS: readonly Program[] = [...PYTHON, ...JAVASCRIPT, ...TYPESCRIPT, ...SHELL];
