declare module 'temml' {
  interface Options {
    displayMode?: boolean;
    throwOnError?: boolean;
    trust?: boolean;
  }
  const temml: {
    render(expression: string, place: HTMLElement, options?: Options): void;
  };
  export default temml;
}
