/** Files that are embedded into the executable; an import gives a path that Bun.file can read. */
declare module "*.py" {
  const path: string;
  export default path;
}

declare module "*/runner.js" {
  const path: string;
  export default path;
}

declare module "*/sandbox-init" {
  const path: string;
  export default path;
}
