/**
 * Draws a logged figure with Plotly, in a frame that has its own origin and no rights. The
 * build writes this file and Plotly into one page, so the file imports nothing. The page that shows
 * the frame sends the figure through a port.
 */
interface FigureRequest {
  figure: unknown;
  theme: {
    isDark: boolean;
    surface: string;
    text: string;
    grid: string;
    frame: string;
    colors: string[];
  };
}

type Theme = FigureRequest['theme'];
type Fields = Record<string, unknown>;

declare const Plotly: {
  react(plot: HTMLElement, figure: Fields): Promise<unknown>;
  setPlotConfig(config: Fields): void;
};

/** An image cannot be downloaded out of the frame. */
const CONFIG = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ['toImage'] };
/** Traces on a map, whose outlines and tiles would come from elsewhere. */
const MAPS = /^((scatter|density|choropleth)(geo|map|mapbox)|choropleth)$/;
const AXES = ['xaxis', 'yaxis', 'zaxis', 'angularaxis', 'radialaxis', 'aaxis', 'baxis', 'caxis'];

const plot = document.getElementById('plot') as HTMLElement;
let port: MessagePort | undefined;

// A web server without policies would give a page that somebody opened the rights of its other pages.
if (self.origin !== 'null') throw new Error('figures are drawn in a sandbox only');
Plotly.setPlotConfig({ logging: 0 });
addEventListener('message', ({ source, ports }) => {
  // Only the first message counts: a later sender is not the page that has the port.
  if (source !== parent || port || !ports[0]) return;
  port = ports[0];
  port.onmessage = ({ data }: MessageEvent<FigureRequest>) => void draw(data);
});
addEventListener('error', ({ message }) => fail(message));
addEventListener('unhandledrejection', ({ reason }) => fail(reason));
// A link would replace the figure by another page.
addEventListener(
  'click',
  event => (event.target as Element).closest('a') && event.preventDefault(),
  true,
);
parent.postMessage('ready', '*');

async function draw({ figure, theme }: FigureRequest): Promise<void> {
  try {
    const { data, layout, frames } = fields(figure);
    if (!Array.isArray(data)) throw new Error('it has no list of traces called “data”');
    if (data.some(trace => MAPS.test(String(fields(trace).type))))
      throw new Error(
        'it has a map, whose outlines and tiles come from the internet, which a figure may not ' +
          'reach here. Log the map as an image instead',
      );
    document.documentElement.style.colorScheme = theme.isDark ? 'dark' : 'light';
    await Plotly.react(plot, {
      data,
      layout: themed(fields(layout), theme),
      frames,
      config: CONFIG,
    });
    port?.postMessage({ isDrawn: true });
  } catch (error) {
    fail(error);
  }
}

function fail(error: unknown): void {
  port?.postMessage({ failure: error instanceof Error ? error.message : String(error) });
}

function fields(value: unknown): Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
    ? (value as Fields)
    : {};
}

/** As large as the frame, and in the colors of the page, unless the figure has its own. */
function themed(layout: Fields, theme: Theme): Fields {
  const sized = { ...layout, width: undefined, height: undefined, autosize: true };
  if (layout.paper_bgcolor ?? layout.plot_bgcolor ?? fields(layout.font).color) return sized;
  const template = fields(layout.template);
  const own = fields(template.layout);
  const line = {
    gridcolor: theme.grid,
    linecolor: theme.frame,
    zerolinecolor: theme.frame,
    automargin: true,
  };
  const withAxes = (part: unknown): Fields => {
    const known = fields(part);
    const axes = AXES.map(name => [
      name,
      { ...fields(known[name]), ...line, backgroundcolor: undefined },
    ]);
    return { ...known, ...Object.fromEntries(axes), bgcolor: theme.surface };
  };
  return {
    ...sized,
    template: {
      ...template,
      data: { ...fields(template.data), table: [tableColors(theme)] },
      layout: {
        ...withAxes(own),
        ...Object.fromEntries(
          ['scene', 'polar', 'ternary'].map(name => [name, withAxes(own[name])]),
        ),
        colorway: own.colorway ?? theme.colors,
        margin: { l: 60, r: 24, t: 48, b: 60, ...fields(own.margin) },
        title: { ...fields(own.title), font: { size: 15 } },
        font: { ...fields(own.font), color: theme.text, family: 'system-ui, sans-serif', size: 12 },
        hoverlabel: {
          bgcolor: theme.surface,
          bordercolor: theme.frame,
          font: { color: theme.text },
        },
        paper_bgcolor: theme.surface,
        plot_bgcolor: theme.surface,
        bgcolor: undefined,
      },
    },
  };
}

function tableColors({ surface, grid, frame }: Theme): Fields {
  const part = (color: string): Fields => ({ fill: { color }, line: { color: frame } });
  return { header: part(grid), cells: part(surface) };
}
