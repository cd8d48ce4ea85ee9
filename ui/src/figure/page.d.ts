/** The address of the page that the build makes of `frame.ts` and Plotly. */
declare module 'virtual:figure-page' {
  const address: string;
  export default address;
}
